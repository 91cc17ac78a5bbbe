"""Create or upgrade the tables of a company on PostgreSQL."""

from typing import TYPE_CHECKING

from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.settings import read_settings
from popug_cli.messages.company import DatabaseMigrated, MigrateDatabase
from popug_cli.messages.principal import Principal
from popug_cli.storage.database_choice import chosen_url

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend


def migrate_database(backend: "LocalBackend", message: MigrateDatabase, principal: Principal) -> DatabaseMigrated:
    """Apply the missing migrations in one transaction, and grant rights to the role.

    Raise ``usage`` for a company in the home's file, ``role_not_found``, or an error of the database.
    """
    from popug_cli.storage.postgres import require_driver

    url = chosen_url(backend.home, read_settings(backend.home.config))
    if not url:
        raise InvalidInput(
            "usage",
            "No PostgreSQL database is named, and the file in a home is migrated by the next command.",
            hint="Set POPUG_DATABASE to the URL of the database, with the role that owns its tables.",
        )
    require_driver()
    from popug_cli.storage.postgres import schema
    from popug_cli.storage.postgres.url import address_of

    before, version = schema.migrate(url, message.role)
    return DatabaseMigrated(address_of(url), before, version)

"""Create a home for each service from the home of a company."""

import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from popug_cli import bootstrap
from popug_cli.bus import hook_cursors, stream_store
from popug_cli.bus.context import Context
from popug_cli.bus.cursors import are_current
from popug_cli.bus.service.history import set_first_subscriptions
from popug_cli.identity import published_keys, token_copies
from popug_cli.kernel.home import Home
from popug_cli.kernel.randomness import uuid7
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.services import SERVICES
from popug_cli.storage import backup_file
from popug_cli.storage.port import Connection

SELECT_TRIGGERS = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?"

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend


def create_service_homes(company: "LocalBackend", directory: Path) -> dict[str, Home]:
    """Create the home of each service in ``directory``, and return them by the name of the service.

    Keys that an older popug made are first published in the company's log; its home stays as it is otherwise. All
    services begin with the same log, because the consumers have caught up and the write lock is held. The database of
    each service is a copy of the whole file; the service uses the tables of its module and of the bus. Only identity
    gets the signing keys. Raise ``FileExistsError`` if a home exists, or the errors of ``bootstrap.open_runtime``.
    """
    homes = {service: Home(directory / service) for service in SERVICES}
    published_keys.ensure_own_key(company.runtime)
    while True:
        company.catch_up(completely=True)
        with company.runtime.writing(OPERATOR) as context:
            if are_current(context, company.consumers):
                log_ids = {service: uuid7(context.now, context.randomness) for service in SERVICES}
                for service, home in homes.items():
                    home.root.mkdir(parents=True)
                    copy_home(company.home, home, with_keys=service == "identity")
                break
    for service, home in homes.items():
        with closing(company.for_home(home)) as backend, backend.runtime.writing(OPERATOR) as context:
            make_service(context, service, log_ids)
            keep_own_tables(context.connection, service)
        with closing(company.for_home(home)) as backend:  # a service must know all void tokens before it accepts one
            backend.catch_up(completely=True)
    return homes


def make_service(context: Context, service: str, log_ids: Mapping[str, str]) -> None:
    """Turn a copy of a company's database into that of a service; ``log_ids`` has the ids of all logs by service.

    Only its own consumers keep their cursors and the events that they have set aside. The consumer of tokens begins at
    the start of the log; the service may serve when it has caught up.
    """
    parts = SERVICES[service]
    streams = {origin: log_ids[origin] for origin in parts.subscriptions}
    stream_store.create_service(context, service, log_ids[service], streams)
    for origin, names in parts.subscriptions.items():
        set_first_subscriptions(context, origin, names)
    stream_store.forget_consumers(context, set(bootstrap.CONSUMING_MODULES) - set(parts.consumers))
    if service != "identity":
        token_copies.reset(context)


def copy_home(source: Home, target: Home, *, with_keys: bool) -> None:
    """Copy the database and the settings of a home, and its keys if ``with_keys``, into another one's directory."""
    target.make()
    backup_file.copy_database(source.database, target.database)
    if source.config.exists():
        shutil.copy(source.config, target.config)
    if with_keys:
        shutil.copytree(source.keys, target.keys, dirs_exist_ok=True)


def keep_own_tables(connection: Connection, service: str) -> None:
    """Delete the rows of the other modules' tables, which this service never reads, and what hooks still have to do.

    ``connection`` is that of a file. So no other service has a copy of password hashes, for example. The triggers that
    protect the rows are created again.
    """
    others = tuple(f"{module}_" for module in SERVICES if module != service)
    hook_cursors.forget_all(connection)
    connection.execute("PRAGMA defer_foreign_keys=ON")
    for table in connection.column("SELECT name FROM sqlite_master WHERE type = 'table'"):
        if table.startswith(others) and table not in token_copies.COPIED_TABLES:
            triggers = connection.select(SELECT_TRIGGERS, table)
            for name, _ in triggers:
                connection.execute(f"DROP TRIGGER {name}")
            connection.execute(f"DELETE FROM {table}")
            for _, statement in triggers:
                connection.execute(statement)

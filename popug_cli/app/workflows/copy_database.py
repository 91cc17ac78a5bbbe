"""Copy a company from the home's file to PostgreSQL, or back into a home."""

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from popug_cli import bootstrap
from popug_cli.app.workflows.backup import verify
from popug_cli.bus.context import Context
from popug_cli.bus.log import Log
from popug_cli.identity import keys, published_keys
from popug_cli.kernel.errors import Conflict, IntegrityViolation
from popug_cli.kernel.settings import DATABASE_URL, read_settings
from popug_cli.mail import outbox
from popug_cli.messages.company import CopyDatabase, DatabaseCopied
from popug_cli.messages.principal import Principal
from popug_cli.platform import files
from popug_cli.storage import temporary_home
from popug_cli.storage.postgres import require_driver

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend


def copy_database(backend: "LocalBackend", message: CopyDatabase, principal: Principal) -> DatabaseCopied:
    """Copy in the direction that the message names; the log with its hash chain is the same in both databases.

    Raise ``already_initialised`` if the target has a company, ``conflict`` if the settings name another database,
    ``integrity`` if the copy differs, or an error of either database.
    """
    if message.to is not None:
        return _to_server(backend, message.to, principal)
    assert message.source is not None
    return _to_home(backend, message.source, principal)


def _to_server(backend: "LocalBackend", url: str, principal: Principal) -> DatabaseCopied:
    """Create the tables and copy into them in one transaction, so that a failure leaves nothing behind."""
    require_driver()
    from popug_cli.storage.postgres import copying, schema
    from popug_cli.storage.postgres.driver import PostgresDatabase

    if read_settings(backend.home.config).text(DATABASE_URL):
        raise Conflict(
            "conflict",
            "This home's company is on PostgreSQL already: POPUG_DATABASE or config.toml names its database.",
            hint="Run `unset POPUG_DATABASE`, or copy that company to a new home: `popug database copy --from URL`.",
        )
    backend.catch_up(completely=True)
    with closing(PostgresDatabase(url)) as target, backend.runtime.writing(principal) as context:
        with target.connection(writes=True) as connection, connection.begin(creates_tables=True):
            if schema.has_company(connection):
                raise _not_empty(target.address)
            copying.from_file(context.connection, connection, context.progress)
            copy = replace(context, connection=connection, log=Log(connection))
            _check_logs_equal(context, copy, target.address)
            published_keys.store_own(copy)  # the first process that opens the copy publishes them
        return _answer(context, target.address)


def _to_home(backend: "LocalBackend", url: str, principal: Principal) -> DatabaseCopied:
    """Copy into a temporary home, check that, and move it; the new home has a key of its own, and holds its mail."""
    require_driver()
    from popug_cli.storage.postgres import copying
    from popug_cli.storage.postgres.driver import PostgresDatabase

    home = backend.home
    if home.database.exists():
        raise _not_empty(str(home.root))
    with closing(PostgresDatabase(url)) as source:
        if not source.is_created():
            raise bootstrap.empty_database(url)
        home.make()
        with temporary_home.temporary_home(home.database) as copy:
            with source.transaction(writes=False) as connection:
                copying.to_file(connection, copy.database, backend.progress)
                head = Log(connection).head_hash()
            copy_backend = backend.for_home(copy)
            with closing(copy_backend):
                verify(backend, copy)
                with copy_backend.runtime.writing(principal) as context:
                    _check_head(context, head, str(home.root))
                    keys.create_first_key(home, context.randomness, context.on_rollback)
                    outbox.hold_all(context)
                    answer = _answer(context, str(home.root))
            files.sync(copy.database)
            copy.database.replace(home.database)
            files.sync(home.root)
    return answer


def _check_head(context: Context, head: str | None, place: str) -> None:
    """Raise ``integrity`` if the chain's head in a copy is not ``head``."""
    if context.log.head_hash() != head:
        raise IntegrityViolation(
            "integrity",
            f"The copy in {place} has another head of the hash chain, so nothing was kept.",
            hint="Run `popug doctor` on the source, then try again.",
        )


def _check_logs_equal(context: Context, copy: Context, address: str) -> None:
    """Compare every event and every link of the hash chain with those of the copy; raise ``integrity``."""
    from popug_cli.storage.postgres import copying

    if (position := copying.first_difference(context.connection, copy.connection)) is not None:
        raise IntegrityViolation(
            "integrity",
            f"The copy in {address} differs from its source at {position}, so nothing was kept.",
            hint="Run `popug doctor` on the source, then try again.",
        )


def _answer(context: Context, target: str) -> DatabaseCopied:
    return DatabaseCopied(target=target, events=context.position, head=context.log.head_hash() or "")


def _not_empty(place: str) -> Conflict:
    return Conflict(
        "already_initialised",
        f"There is a company in {place} already, so nothing was copied.",
        hint="Name an empty database, or another home with --home DIR.",
    )

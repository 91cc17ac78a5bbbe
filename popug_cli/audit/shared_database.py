"""Check a company on a database server: on a copy of its snapshot in a SQLite file, and partly on the server."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from popug_cli.audit.result import MAX_SHOWN_VIOLATIONS, check_result
from popug_cli.bus.context import Context
from popug_cli.bus.log import Log
from popug_cli.messages.company import Check
from popug_cli.storage import temporary_home
from popug_cli.storage.sqlite import SqliteDatabase

if TYPE_CHECKING:
    from popug_cli.bus.context import Runtime


@contextmanager
def snapshot_as_file(runtime: "Runtime", context: Context) -> Iterator[Context]:
    """Yield a context of the same company in a SQLite file: ``context`` itself, or that of a temporary copy."""
    if not runtime.database.is_shared:
        yield context
        return
    from popug_cli.storage.postgres import copying

    with temporary_home.temporary_home(context.home.database) as home:
        copying.to_file(context.connection, home.database, context.progress)
        copy = SqliteDatabase(home.database)
        try:
            with copy.transaction(writes=False) as connection:
                yield replace(context, connection=connection, log=Log(connection), home=home)
        finally:
            copy.close()


def server_checks(context: Context, copy: Context, address: str) -> list[Check]:
    """Return the checks of the server at ``address`` itself; ``copy`` is the context of ``snapshot_as_file``."""
    from popug_cli.storage.postgres import checks

    objects = "tables, indexes, triggers and functions are those of a fresh database"
    columns = "the columns of the log repeat what its envelopes say"
    version = context.connection.scalar("SELECT current_setting('server_version')")
    return [
        Check("database_server", True, f"this is {address}, of PostgreSQL {version}"),
        check_result("schema", objects, list(checks.differing_objects(context.connection))),
        check_result(
            "log_columns",
            columns,
            list(islice(checks.differing_log_columns(context.connection, copy.connection), MAX_SHOWN_VIOLATIONS + 1)),
        ),
    ]

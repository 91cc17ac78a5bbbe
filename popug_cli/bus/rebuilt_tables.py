"""Replace the tables of a consumer with those of a rebuild."""

from collections.abc import Mapping

from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Context
from popug_cli.bus.cursors import mark_rebuilt
from popug_cli.storage.port import Connection

COPY_ROWS = 10_000


def replace_tables(live: Context, consumer: Consumer, rebuilt: Connection, selects: Mapping[str, str]) -> None:
    """Replace each table by the rows that its query returns from the rebuild, and move the consumer's cursor.

    ``selects`` has the query of each table. The context's position must be the end of the log.
    """
    for table, select in selects.items():
        live.connection.execute(f"DELETE FROM {table}")
        _copy_rows(live, rebuilt, table, select)
    mark_rebuilt(live, consumer)


def _copy_rows(live: Context, rebuilt: Connection, table: str, select: str) -> None:
    rows: list[tuple[object, ...]] = []
    for row in rebuilt.stream(select):
        rows.append(row)
        if len(rows) == COPY_ROWS:
            _insert(live, table, rows)
            rows = []
    _insert(live, table, rows)


def _insert(live: Context, table: str, rows: list[tuple[object, ...]]) -> None:
    if rows:
        placeholders = ",".join("?" * len(rows[0]))
        live.connection.insert_many(f"INSERT INTO {table} VALUES ({placeholders})", rows)

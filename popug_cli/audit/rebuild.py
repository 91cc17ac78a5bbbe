"""Rebuild a read model from the log in a copy; the caller compares the live one with it, or replaces the live one.

The copy is a separate database in a temporary directory, so that building it does not lock the live one.
"""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from sqlalchemy import Connection, Engine, event

from popug_cli.bus.consumers import BATCH_EVENTS, Consumer
from popug_cli.bus.context import Context
from popug_cli.messages.bus import Difference
from popug_cli.storage.engine import open_engine, scalar, transaction

FETCH_ROWS = 1_000


@contextmanager
def empty_copy(context: Context, consumer: Consumer) -> Iterator[Engine]:
    """Yield an empty database with the consumer's tables and indexes as they are in the live one."""
    statement = (
        "SELECT sql FROM sqlite_master WHERE tbl_name LIKE ? ESCAPE '\\' AND sql IS NOT NULL"
        " AND type IN ('table', 'index') ORDER BY type = 'index'"
    )
    schema = context.connection.exec_driver_sql(statement, (f"{consumer.name}\\_%",)).scalars().all()
    with tempfile.TemporaryDirectory(prefix="popug-rebuild-", dir=_temporary_directory(context.home.root)) as directory:
        file = Path(directory) / "rebuilt.db"
        with sqlite3.connect(file) as database:
            for sql in schema:
                database.execute(sql)
        database.close()
        engine = open_engine(file)
        event.listen(engine, "connect", _turn_off_sync)
        try:
            yield engine
        finally:
            engine.dispose()


def _temporary_directory(home: Path) -> str:
    """Return the system's directory for temporary files; the home if none is usable, as when ``/tmp`` is full."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return str(home)


def replay_into(context: Context, consumer: Consumer, copy: Engine, *, after: int, up_to: int) -> int:
    """Run the consumer on its events after ``after`` up to ``up_to``, in the copy; return the number of events.

    Events that cannot be read are left out, and so are those that the consumer has parked in the live database.
    """
    parked = parked_positions(context, consumer)
    events_count = 0
    while rows := [row for row in context.log.after(after, consumer.types, BATCH_EVENTS) if row[0] <= up_to]:
        events = list(context.log.decode_known([row for row in rows if row[0] not in parked]))
        with transaction(copy, writes=True) as connection:
            consumer.consume(events, replace(context, connection=connection, position=rows[-1][0]))
        events_count += len(events)
        after = rows[-1][0]
        context.progress("Reading events", after, up_to)
    return events_count


def differences(context: Context, consumer: Consumer, copy: Engine) -> list[Difference]:
    """Return the tables whose live and rebuilt rows differ, compared row by row in the order of their keys.

    Each has the number of differing rows and the first of them as an example.
    """
    with transaction(copy, writes=False) as rebuilt:
        differences_by_table = [
            _difference(context.connection, rebuilt, table) for table in tables_of(context, consumer)
        ]
    return [difference for difference in differences_by_table if difference is not None]


def tables_of(context: Context, consumer: Consumer) -> list[str]:
    """Return the names of the consumer's tables."""
    statement = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE ? ESCAPE '\\' ORDER BY name"
    return list(context.connection.exec_driver_sql(statement, (f"{consumer.name}\\_%",)).scalars())


def rows_of(connection: Connection, table: str) -> Iterator[tuple[object, ...]]:
    """Yield every row of a table in the order of its key, with ``FETCH_ROWS`` in memory at a time."""
    keys = connection.exec_driver_sql(f"PRAGMA table_info({table})")
    order = ", ".join(row.name for row in sorted(keys, key=lambda row: row.pk) if row.pk)
    result = connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY {order}")
    for chunk in result.partitions(FETCH_ROWS):
        yield from (tuple(row) for row in chunk)


def _difference(live: Connection, rebuilt: Connection, table: str) -> Difference | None:
    differing_count = 0
    example = ""
    for live_row, rebuilt_row in zip_longest(rows_of(live, table), rows_of(rebuilt, table)):
        if live_row != rebuilt_row:
            differing_count += 1
            example = example or f"live {live_row}, rebuilt {rebuilt_row}"
    return Difference(table, differing_count, example) if differing_count else None


def parked_positions(context: Context, consumer: Consumer) -> set[int]:
    """Return the positions of the events that the consumer has parked, dropped ones included."""
    statement = "SELECT sequence FROM bus_set_aside WHERE consumer = ?"
    return set(context.connection.exec_driver_sql(statement, (consumer.name,)).scalars())


def cursor_of(context: Context, consumer: Consumer) -> int:
    """Return the position of the live consumer's cursor, but at most the context's position."""
    position = scalar(context.connection, "SELECT position FROM bus_cursors WHERE consumer = :c", c=consumer.name)
    return min(position or 0, context.position)


def _turn_off_sync(connection: sqlite3.Connection, record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")

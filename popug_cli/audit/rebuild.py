"""A read model built anew from the log, beside the live one, to compare it with or to take its place.

The copy is a database of its own in a temporary directory, so that building it takes no lock of the live one.
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
from popug_cli.bus.runtime import Context
from popug_cli.messages.bus import Difference
from popug_cli.storage.engine import open_engine, scalar, transaction

FETCH_ROWS = 1_000


@contextmanager
def empty_copy(context: Context, consumer: Consumer) -> Iterator[Engine]:
    """An empty database with the consumer's tables as they are in the live one."""
    statement = (
        "SELECT sql FROM sqlite_master WHERE tbl_name LIKE ? ESCAPE '\\' AND sql IS NOT NULL"
        " AND type IN ('table', 'index') ORDER BY type = 'index'"
    )
    schema = context.connection.exec_driver_sql(statement, (f"{consumer.name}\\_%",)).scalars().all()
    with tempfile.TemporaryDirectory(prefix="popug-rebuild-", dir=_room(context.home.root)) as directory:
        file = Path(directory) / "rebuilt.db"
        with sqlite3.connect(file) as database:
            for sql in schema:
                database.execute(sql)
        database.close()
        engine = open_engine(file)
        event.listen(engine, "connect", _needs_no_durability)
        try:
            yield engine
        finally:
            engine.dispose()


def _room(home: Path) -> str:
    """The system's place for temporary files; where that takes none, as a full ``/tmp``, the home."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return str(home)


def feed(context: Context, consumer: Consumer, copy: Engine, *, after: int, up_to: int) -> int:
    """Let the consumer take the events between two positions into the copy; how many it took comes back.

    What the consumer has set aside in the live database is left out here, too, and what cannot be read.
    """
    aside = held_back(context, consumer)
    taken = 0
    while rows := [row for row in context.log.after(after, consumer.types, BATCH_EVENTS) if row[0] <= up_to]:
        events = list(context.log.known([row for row in rows if row[0] not in aside]))
        with transaction(copy, writes=True) as connection:
            consumer.consume(events, replace(context, connection=connection, position=rows[-1][0]))
        taken += len(events)
        after = rows[-1][0]
        context.progress("Reading events", after, up_to)
    return taken


def differences(context: Context, consumer: Consumer, copy: Engine) -> list[Difference]:
    """The tables of which live and rebuilt rows differ, row by row in the order of their keys."""
    with transaction(copy, writes=False) as rebuilt:
        found = [_difference(context.connection, rebuilt, table) for table in tables_of(context, consumer)]
    return [each for each in found if each is not None]


def tables_of(context: Context, consumer: Consumer) -> list[str]:
    """The names of the consumer's tables."""
    statement = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE ? ESCAPE '\\' ORDER BY name"
    return list(context.connection.exec_driver_sql(statement, (f"{consumer.name}\\_%",)).scalars())


def rows_of(connection: Connection, table: str) -> Iterator[tuple[object, ...]]:
    """Every row of a table in the order of its key, a thousand in memory at a time."""
    keys = connection.exec_driver_sql(f"PRAGMA table_info({table})")
    order = ", ".join(row.name for row in sorted(keys, key=lambda row: row.pk) if row.pk)
    result = connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY {order}")
    for part in result.partitions(FETCH_ROWS):
        yield from (tuple(row) for row in part)


def _difference(live: Connection, rebuilt: Connection, table: str) -> Difference | None:
    unlike = 0
    example = ""
    for one, other in zip_longest(rows_of(live, table), rows_of(rebuilt, table)):
        if one != other:
            unlike += 1
            example = example or f"{one} where the log gives {other}"
    return Difference(table, unlike, example) if unlike else None


def held_back(context: Context, consumer: Consumer) -> set[int]:
    """The positions of what the consumer has set aside, dropped ones included."""
    statement = "SELECT sequence FROM bus_set_aside WHERE consumer = ?"
    return set(context.connection.exec_driver_sql(statement, (consumer.name,)).scalars())


def cursor_of(context: Context, consumer: Consumer) -> int:
    """How far the live consumer has come."""
    found = scalar(context.connection, "SELECT position FROM bus_cursors WHERE consumer = :c", c=consumer.name)
    return min(found or 0, context.position)


def _needs_no_durability(connection: sqlite3.Connection, record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")

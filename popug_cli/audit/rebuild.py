"""Rebuild a read model from the log in a copy; the caller compares the live one with it, or replaces the live one.

The copy is a separate database without a name, so that building it neither locks the live one nor leaves a file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import zip_longest

from popug_cli.bus.consumers import BATCH_EVENTS, Consumer
from popug_cli.bus.context import Context
from popug_cli.messages.bus import Difference
from popug_cli.storage.port import Connection, Database
from popug_cli.storage.schema import statements_of
from popug_cli.storage.scratch import ScratchDatabase


@contextmanager
def empty_copy(consumer: Consumer) -> Iterator[Database]:
    """Yield an empty database with the consumer's tables and indexes."""
    copy = ScratchDatabase()
    try:
        with copy.transaction(writes=True) as connection:
            for statement in statements_of(consumer.name):
                connection.execute(statement)
        yield copy
    finally:
        copy.close()


def replay_into(context: Context, consumer: Consumer, copy: Database, *, after: int, up_to: int) -> int:
    """Run the consumer on its events after ``after`` up to ``up_to``, in the copy; return the number of events.

    Events that cannot be read are left out, and so are those that the consumer has parked in the live database.
    """
    parked = parked_positions(context, consumer)
    events_count = 0
    while rows := [row for row in context.log.after(after, consumer.types, BATCH_EVENTS) if row[0] <= up_to]:
        events = list(context.log.decode_known([row for row in rows if row[0] not in parked]))
        with copy.transaction(writes=True) as connection:
            consumer.consume(events, replace(context, connection=connection, position=rows[-1][0]))
        events_count += len(events)
        after = rows[-1][0]
        context.progress("Reading events", after, up_to)
    return events_count


def differences(context: Context, consumer: Consumer, copy: Database) -> list[Difference]:
    """Return the tables whose live and rebuilt rows differ, compared row by row in the order of their keys.

    Each has the number of differing rows and the first of them as an example.
    """
    with copy.transaction(writes=False) as rebuilt:
        differences_by_table = [
            _difference(context.connection, rebuilt, table) for table in tables_of(rebuilt, consumer)
        ]
    return [difference for difference in differences_by_table if difference is not None]


def tables_of(copy: Connection, consumer: Consumer) -> list[str]:
    """Return the names of the consumer's tables, read from the copy."""
    statement = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE ? ESCAPE '\\' ORDER BY name"
    return copy.column(statement, f"{consumer.name}\\_%")


def select_all(copy: Connection, table: str) -> str:
    """Return the query for every row of a table in the order of its key, with the columns as the copy has them."""
    columns = copy.select(f"PRAGMA table_info({table})")
    order = ", ".join(name for key_index, name in sorted((key, name) for _, name, _, _, _, key in columns) if key_index)
    return f"SELECT {', '.join(name for _, name, *_ in columns)} FROM {table} ORDER BY {order}"


def _difference(live: Connection, rebuilt: Connection, table: str) -> Difference | None:
    differing_count = 0
    example = ""
    statement = select_all(rebuilt, table)
    for live_row, rebuilt_row in zip_longest(live.stream(statement), rebuilt.stream(statement)):
        if live_row != rebuilt_row:
            differing_count += 1
            example = example or f"live {live_row}, rebuilt {rebuilt_row}"
    return Difference(table, differing_count, example) if differing_count else None


def parked_positions(context: Context, consumer: Consumer) -> set[int]:
    """Return the positions of the events that the consumer has parked, dropped ones included."""
    statement = "SELECT sequence FROM bus_set_aside WHERE consumer = ?"
    return set(context.connection.column(statement, consumer.name))


def cursor_of(context: Context, consumer: Consumer) -> int:
    """Return the position of the live consumer's cursor, but at most the context's position."""
    position = context.connection.scalar("SELECT position FROM bus_cursors WHERE consumer = :c", c=consumer.name)
    return min(position or 0, context.position)

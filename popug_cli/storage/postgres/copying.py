"""Copy a company between a SQLite file and a PostgreSQL database, row by row, on one snapshot of the source.

The columns that SQLite computes from an envelope are stored on PostgreSQL.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import islice, zip_longest
from pathlib import Path

from popug_cli.kernel.progress import Progress
from popug_cli.storage.port import Connection, Row
from popug_cli.storage.schema import statements_of

CHUNK_ROWS = 10_000
FIRST_TABLES = ("alembic_version", "identity_users", "tasks_people", "tasks_tasks", "billing_accounts", "billing_tasks")
LAST_TABLES = ("billing_days",)  # a closed day refuses what is copied later
SELECT_EVENTS = "SELECT sequence, CAST(envelope AS BLOB) FROM bus_log ORDER BY sequence"
SELECT_LINKS = "SELECT last_sequence, first_sequence, hash FROM bus_links ORDER BY last_sequence"
FILE_PRAGMAS = ("page_size=8192", "journal_mode=OFF", "synchronous=OFF")
SEGMENT_TRIGGER = "ALTER TABLE billing_entries {} TRIGGER billing_entries_segment"
SET_NEXT_ID = (
    "SELECT setval(pg_get_serial_sequence('bus_set_aside', 'id'), (SELECT max(id) FROM bus_set_aside))"
    " FROM bus_set_aside LIMIT 1"
)


def to_file(source: Connection, file: Path, progress: Progress) -> None:
    """Copy the company that ``source`` reads in one transaction into a new SQLite file; raise ``sqlite3.Error``."""
    with closing(sqlite3.connect(file, isolation_level=None)) as target:
        for pragma in FILE_PRAGMAS:
            target.execute(f"PRAGMA {pragma}")
        target.execute("BEGIN")
        for statement in statements_of(kinds=("table",)):
            target.execute(statement)
        for table in _tables(target):
            names = _plain_columns(target, table)
            insert = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
            rows = source.stream(f"SELECT {', '.join(names)} FROM {table}")
            for chunk in _chunks(rows, table, progress):
                target.executemany(insert, chunk)
        for statement in statements_of(kinds=("index", "trigger", "view")):
            target.execute(statement)
        target.execute("COMMIT")
        target.execute("PRAGMA journal_mode=WAL")


def from_file(source: Connection, target: Connection, progress: Progress) -> None:
    """Copy the company that ``source`` reads from a SQLite file into an empty PostgreSQL database.

    ``target`` is in a write transaction, with the rights of the owner of the tables. Raise the errors of both drivers.
    """
    target.execute(SEGMENT_TRIGGER.format("DISABLE"))
    target.execute("DELETE FROM alembic_version")
    for table in _tables(source):
        names = _plain_columns(source, table)
        if table == "bus_log":
            names += ["type", "id", "subject", "actor", "time"]
        insert = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
        rows = source.stream(f"SELECT {', '.join(names)} FROM {table}")
        for chunk in _chunks(rows, table, progress):
            target.insert_many(insert, chunk)
    target.execute(SEGMENT_TRIGGER.format("ENABLE"))
    target.select(SET_NEXT_ID)


def first_difference(source: Connection, target: Connection) -> int | None:
    """Return the position at which the events or the links of the hash chain differ, or None if all are equal."""
    for statement in (SELECT_EVENTS, SELECT_LINKS):
        for row, copied in zip_longest(source.stream(statement), target.stream(statement)):
            if row != copied:
                return int((row or copied)[0])
    return None


def _tables(connection: Connection | sqlite3.Connection) -> list[str]:
    """Return the tables of a SQLite file, those first to which other tables refer."""
    rows = _select(connection, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    names = {name for (name,) in rows}
    others = sorted(names.difference(FIRST_TABLES, LAST_TABLES))
    return [*FIRST_TABLES, *others, *LAST_TABLES]


def _plain_columns(connection: Connection | sqlite3.Connection, table: str) -> list[str]:
    """Return the columns of a table of a SQLite file, except computed ones."""
    return [name for _, name, *_ in _select(connection, f"PRAGMA table_info({table})")]


def _select(connection: Connection | sqlite3.Connection, statement: str) -> list[Row]:
    if isinstance(connection, Connection):
        return connection.select(statement)
    return connection.execute(statement).fetchall()


def _chunks(rows: Iterator[Row], table: str, progress: Progress) -> Iterator[list[Row]]:
    copied = 0
    while chunk := list(islice(rows, CHUNK_ROWS)):
        yield chunk
        copied += len(chunk)
        progress(f"Copying {table}", copied, copied)

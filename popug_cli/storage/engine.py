"""How the SQLite file is opened, and the one way in which transactions begin and end."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.pool import QueuePool

from popug_cli.storage.faults import translated

BUSY_TIMEOUT_SECONDS = 30
POOL_CONNECTIONS = 5
SHARED_CACHE_KIB = 65_536
PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA recursive_triggers=ON",
    "PRAGMA trusted_schema=ON",
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_SECONDS * 1000}",
)


def open_engine(database: Path, *, threads: int = 1) -> Engine:
    """An engine over the file, which must exist, with the settings that keep what was acknowledged.

    It keeps a connection open for each of so many threads, which share the memory that one has for its cache.
    """
    engine = create_engine(
        URL.create("sqlite", database=str(database)),
        creator=lambda: _connect(database, threads),
        poolclass=QueuePool,
        pool_size=max(threads, POOL_CONNECTIONS),
        pool_reset_on_return=None,
    )
    event.listen(engine, "begin", _begin)
    return engine


def _connect(database: Path, threads: int) -> sqlite3.Connection:
    uri = f"{database.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_SECONDS, check_same_thread=False
    )
    for pragma in PRAGMAS:
        connection.execute(pragma)
    if threads > 1:
        connection.execute(f"PRAGMA cache_size=-{SHARED_CACHE_KIB // threads}")
    return connection


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("popug_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def transaction(engine: Engine, *, writes: bool) -> Iterator[Connection]:
    """One transaction: committed at the end, rolled back on any exception.

    A writing one takes the write lock at once, a reading one is never upgraded. Raises the errors of ``faults``.
    """
    database = Path(engine.url.database or "")
    with (
        translated(database),
        engine.connect().execution_options(popug_writes=writes) as connection,
        connection.begin(),
    ):
        yield connection


def may_write(connection: Connection) -> bool:
    """Whether the transaction of a connection holds the write lock."""
    return bool(connection.get_execution_options().get("popug_writes", False))


def insert_many(connection: Connection, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    """Run one statement with ``?`` places for many rows, past SQLAlchemy's handling of each row's parameters."""
    if rows:
        connection.exec_driver_sql(statement, [tuple(row) for row in rows])


def scalar(connection: Connection, statement: str, **parameters: Any) -> Any:
    """The first column of the first row of a statement with ``:name`` places, or None."""
    return connection.execute(text(statement), parameters).scalar()

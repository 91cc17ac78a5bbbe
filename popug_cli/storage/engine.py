"""Open the SQLite file, and begin and end its transactions."""

import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool

from popug_cli.kernel.disk_errors import in_doubt
from popug_cli.platform import file_id
from popug_cli.storage import write_lock
from popug_cli.storage.errors import (
    PARTIAL_WORK_KEPT,
    environment_error,
    replaced,
    translate_errors,
    treat_garbage_as_corruption,
)
from popug_cli.storage.migrate import NEWEST, migrated_since

BUSY_TIMEOUT_SECONDS = 30
LOCK_POLL_MILLISECONDS = 100
BULK_ROW_COUNTS = (500, 60)  # rows of one INSERT, the largest first
_ONE_ROW_OF_VALUES = re.compile(r"([^?]*\bVALUES )(\([^()]*\))([^?]*)")
VALUES_PER_STATEMENT = 1_000
MIN_POOL_CONNECTIONS = 5
SHARED_CACHE_KIB = 32_768
FSYNC_ERRORS = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})
SCHEMA_VERSION = "SELECT version_num FROM alembic_version"
BUSY_TIMEOUT_PRAGMA = f"PRAGMA busy_timeout={BUSY_TIMEOUT_SECONDS * 1000}"
PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA recursive_triggers=ON",
    "PRAGMA trusted_schema=ON",  # older SQLite calls json_extract unsafe, which computes columns of the log
    "PRAGMA cache_size=-16384",
    BUSY_TIMEOUT_PRAGMA,
)


def open_engine(database: Path, *, threads: int = 1, while_waiting: Callable[[], None] = lambda: None) -> Engine:
    """Return an engine for an existing file, with the settings that make acknowledged commits durable.

    It keeps a connection open for each of ``threads`` threads; they share the memory for the cache. ``while_waiting``
    is called several times a second while a write transaction waits for its lock; an exception from it ends the wait.
    """
    engine = create_engine(
        URL.create("sqlite", database=str(database)),
        creator=lambda: _connect(database, threads),
        poolclass=QueuePool,
        pool_size=max(threads, MIN_POOL_CONNECTIONS),
        pool_reset_on_return=None,
        execution_options={
            "popug_database": database,
            "popug_identity": file_id.file_id(database),
            "popug_while_waiting": while_waiting,
        },
    )
    event.listen(engine, "begin", _begin)
    event.listen(engine, "commit", _commit)
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
    """Begin a transaction. One that writes waits at most ``BUSY_TIMEOUT_SECONDS`` for SQLite's lock."""
    if not may_write(connection):
        raw_connection(connection).execute("BEGIN")
        return
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while not _try_write_lock(raw_connection(connection), is_last=time.monotonic() > deadline):
        connection.get_execution_options()["popug_while_waiting"]()


def _try_write_lock(driver: sqlite3.Connection, *, is_last: bool) -> bool:
    """Try to begin a write transaction; return whether it has begun. If ``is_last``, raise the error instead.

    SQLite waits for ``LOCK_POLL_MILLISECONDS``; signals are handled only after that.
    """
    driver.execute(f"PRAGMA busy_timeout={LOCK_POLL_MILLISECONDS}")
    try:
        driver.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if is_last or error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise
        return False
    finally:
        driver.execute(BUSY_TIMEOUT_PRAGMA)
    return True


def _commit(connection: Connection) -> None:
    """Commit. If that fails, make sure that nothing is committed, or raise ``in_doubt``.

    If the final sync of a commit fails, its data is already written: the next process to open the file may find it. A
    Ctrl-C during a commit that succeeds is raised again with ``PARTIAL_WORK_KEPT``.
    """
    driver = raw_connection(connection)
    try:
        driver.execute("COMMIT")
    except sqlite3.Error as error:
        if driver.in_transaction:
            driver.execute("ROLLBACK")
        translated = environment_error(error, connection.get_execution_options()["popug_database"])
        if translated is not None and error.sqlite_errorcode in FSYNC_ERRORS and not _truncate_wal(driver):
            raise in_doubt(translated) from error
        raise
    except KeyboardInterrupt as interrupt:  # raised while COMMIT waited for the disk
        if may_write(connection) and not driver.in_transaction:
            raise KeyboardInterrupt(PARTIAL_WORK_KEPT) from interrupt
        raise


def _truncate_wal(driver: sqlite3.Connection) -> bool:
    """Remove from the write-ahead log what follows the last commit; return whether that was possible."""
    try:
        busy, *_ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error:
        return False
    return not busy


@contextmanager
def transaction(engine: Engine, *, writes: bool) -> Iterator[Connection]:
    """Yield a connection in one transaction: committed at the end, rolled back on any exception.

    A write transaction takes the write lock at its start. The caller must not write in a read transaction. Raise the
    errors of ``storage.errors``.
    """
    with open_connection(engine, writes=writes) as connection, transaction_scope(connection):
        yield connection


@contextmanager
def write_transaction(engine: Engine) -> Iterator[tuple[Connection, ExitStack]]:
    """Yield a connection in a write transaction, and the ``on_rollback`` stack of ``transaction_scope``.

    Raise ``newer_database`` and the errors of ``storage.errors``.
    """
    with open_connection(engine, writes=True) as connection, transaction_scope(connection) as on_rollback:
        refuse_newer(connection)
        yield connection, on_rollback


@dataclass(frozen=True, slots=True)
class Transactions:
    """The functions that open a read and a write transaction; a simulation has its own."""

    reading: Callable[[Engine], AbstractContextManager[Connection]]
    writing: Callable[[Engine], AbstractContextManager[tuple[Connection, ExitStack]]]


SQLITE_TRANSACTIONS = Transactions(reading=partial(transaction, writes=False), writing=write_transaction)


@contextmanager
def open_connection(engine: Engine, *, writes: bool) -> Iterator[Connection]:
    """Yield a connection for successive transactions of one kind; raise the errors of ``storage.errors``."""
    database = engine.get_execution_options()["popug_database"]
    with (
        translate_errors(database),
        treat_garbage_as_corruption(database),
        engine.connect().execution_options(popug_writes=writes) as connection,
    ):
        yield connection


@contextmanager
def transaction_scope(connection: Connection) -> Iterator[ExitStack]:
    """Run one transaction on a connection; a write transaction acquires the write lock first.

    The yielded stack is exited after the transaction but before the lock is released. Its context managers restore
    files outside the database if the transaction failed. Raise ``home_replaced`` and ``database_busy``.
    """
    options = connection.get_execution_options()
    database, identity = options["popug_database"], options["popug_identity"]
    while_waiting = options["popug_while_waiting"]
    with (
        write_lock.acquire(database, identity, while_waiting) if may_write(connection) else nullcontext(),
        ExitStack() as on_rollback,
        connection.begin(),
    ):
        if may_write(connection):
            _check_not_replaced(connection)
        yield on_rollback


def execute_in_own_transaction(connection: Connection, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    """Run one statement with ``?`` placeholders for many rows in its own write transaction, without SQLAlchemy.

    Raise ``home_replaced``, ``newer_database``, ``database_busy`` or ``sqlite3.Error``.
    """
    options, driver = connection.get_execution_options(), raw_connection(connection)
    with write_lock.acquire(options["popug_database"], options["popug_identity"]):
        try:
            _begin(connection)
            _check_not_replaced(connection)
            refuse_newer(connection)
            driver.executemany(statement, rows)
            _commit(connection)
        finally:
            if driver.in_transaction:
                driver.execute("ROLLBACK")


def _check_not_replaced(connection: Connection) -> None:
    """Raise ``home_replaced`` if the database was replaced by another file during the wait for SQLite's lock."""
    options = connection.get_execution_options()
    if file_id.file_id(options["popug_database"]) != options["popug_identity"]:
        raise replaced(options["popug_database"])


def refuse_newer(connection: Connection) -> None:
    """Raise ``newer_database`` if a newer popug has migrated the database since this process opened it."""
    version = scalar(connection, SCHEMA_VERSION)
    if version is not None and version > NEWEST:
        raise migrated_since(connection.get_execution_options()["popug_database"], version)


def may_write(connection: Connection) -> bool:
    """Return whether the connection is for write transactions, which take the write lock."""
    return bool(connection.get_execution_options().get("popug_writes", False))


def insert_many(connection: Connection, statement: str, rows: Sequence[Sequence[Any]]) -> int:
    """Run one statement with ``?`` placeholders for many rows, without SQLAlchemy; return the number of changed rows.

    Raise ``sqlite3.Error``. If all placeholders are in one ``VALUES (…)``, hundreds of rows are inserted at once. That
    costs SQLite half as much if the table has references or triggers, because SQLite prepares to undo each statement.
    """
    driver, inserted, changed = raw_connection(connection), 0, 0
    for size in BULK_ROW_COUNTS:
        if len(rows) - inserted >= size and (parts := _ONE_ROW_OF_VALUES.fullmatch(statement)):
            bulk_statement = f"{parts[1]}{', '.join([parts[2]] * size)}{parts[3]}"
            while len(rows) - inserted >= size:
                chunk = rows[inserted : inserted + size]
                changed += driver.execute(bulk_statement, [*chain.from_iterable(chunk)]).rowcount
                inserted += size
    if inserted < len(rows):
        changed += driver.executemany(statement, rows[inserted:]).rowcount
    return changed


def scalar(connection: Connection, statement: str, **parameters: Any) -> Any:
    """Return the first value of a statement with ``:name`` placeholders, or None; raise ``sqlite3.Error``."""
    cursor = raw_connection(connection).execute(statement, parameters)
    row = cursor.fetchone()
    cursor.close()
    return row[0] if row else None


def select(connection: Connection, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """Return all rows of a statement with ``:name`` placeholders; raise ``sqlite3.Error``."""
    return raw_connection(connection).execute(statement, parameters).fetchall()


def raw_connection(connection: Connection) -> sqlite3.Connection:
    """Return the driver's connection, for frequent statements: SQLAlchemy costs ten times as much as SQLite."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def execute(connection: Connection, statement: str, **parameters: Any) -> int:
    """Run a statement with ``:name`` placeholders; return the number of changed rows; raise ``sqlite3.Error``."""
    return raw_connection(connection).execute(statement, parameters).rowcount


def select_in(
    connection: Connection, statement: str, values: Sequence[str], *leading_values: str
) -> list[tuple[Any, ...]]:
    """Return the rows of a statement that ends in ``IN``, for a thousand values at a time; raise ``sqlite3.Error``.

    ``leading_values`` are the values of the statement's own ``?`` placeholders.
    """
    driver, rows = raw_connection(connection), []
    for start in range(0, len(values), VALUES_PER_STATEMENT):
        chunk = values[start : start + VALUES_PER_STATEMENT]
        rows += driver.execute(f"{statement} ({','.join('?' * len(chunk))})", [*leading_values, *chunk]).fetchall()
    return rows

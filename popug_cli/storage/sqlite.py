"""The driver for SQLite: open the file, and begin and end its transactions."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from copy import copy
from pathlib import Path
from typing import Any

from popug_cli.kernel.disk_errors import in_doubt
from popug_cli.platform import file_id
from popug_cli.storage import cluster_state, write_lock
from popug_cli.storage.cluster_state import ClusterState
from popug_cli.storage.errors import (
    PARTIAL_WORK_KEPT,
    environment_error,
    replaced,
    translate_errors,
    treat_garbage_as_corruption,
)
from popug_cli.storage.migrate import NEWEST, migrated_since
from popug_cli.storage.port import Connection, Database, Row, TextNotUtf8Error, Values

BUSY_TIMEOUT_SECONDS = 30
LOCK_POLL_MILLISECONDS = 100
MIN_POOL_CONNECTIONS = 5
SHARED_CACHE_KIB = 32_768
FSYNC_ERRORS = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})
SELECT_VERSION_AND_CLUSTER = (
    "SELECT version_num, cluster_id, gateway FROM alembic_version"
    " LEFT JOIN storage_cluster_state ON storage_cluster_state.state = 'moved'"
)
BUSY_TIMEOUT_PRAGMA = f"PRAGMA busy_timeout={BUSY_TIMEOUT_SECONDS * 1000}"
PRAGMAS = (
    "PRAGMA page_size=8192",  # of a new file; half as much of a page stays empty below rows of 700 bytes
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA recursive_triggers=ON",
    "PRAGMA trusted_schema=ON",  # older SQLite calls json_extract unsafe, which computes columns of the log
    "PRAGMA cache_size=-16384",
    BUSY_TIMEOUT_PRAGMA,
)


class NotUtf8Error(TextNotUtf8Error, sqlite3.OperationalError):
    """A text in a SQLite file is not UTF-8."""


class SqliteDatabase(Database):
    """An existing SQLite file with the settings that make acknowledged commits durable, and a pool of idle connections.

    It keeps a connection open for each of ``threads`` threads; they share the memory for the cache. ``while_waiting``
    is called several times a second while a write transaction waits for its lock; an exception from it ends the wait.
    """

    def __init__(self, path: Path, *, threads: int = 1, while_waiting: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self.identity = file_id.file_id(path)
        self.while_waiting = while_waiting
        self._threads = threads
        self._idle: list[sqlite3.Connection] = []  # ``append`` and ``pop`` of a list are atomic

    @contextmanager
    def connection(self, *, writes: bool) -> Iterator[Connection]:
        """Yield a connection for successive transactions, which all write or all only read.

        Raise the errors of ``storage.errors``.
        """
        with translate_errors(self.path), treat_garbage_as_corruption(self.path):
            try:
                driver = self._idle.pop()
            except IndexError:  # another thread may take the last one between a look and ``pop``
                driver = self._connect()
            try:
                yield SqliteConnection(self, driver, writes=writes)
            except BaseException as error:
                if isinstance(error, Exception) and not driver.in_transaction:
                    self._release(driver)
                else:
                    driver.close()
                raise
            self._release(driver)

    def ignoring_stop_requests(self) -> "SqliteDatabase":
        """Return the same database, but its write transactions keep waiting for the lock after a stop request."""
        uninterrupted = copy(self)  # with the same pool
        uninterrupted.while_waiting = lambda: None
        return uninterrupted

    def close(self) -> None:
        """Close all connections that are not in use."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _connect(self) -> sqlite3.Connection:
        driver = connect(self.path)
        if self._threads > 1:
            driver.execute(f"PRAGMA cache_size=-{SHARED_CACHE_KIB // self._threads}")
        return driver

    def _release(self, driver: sqlite3.Connection) -> None:
        if len(self._idle) < max(self._threads, MIN_POOL_CONNECTIONS):
            self._idle.append(driver)
        else:
            driver.close()


def connect(file: Path) -> sqlite3.Connection:
    """Return the driver's connection to an existing file, with popug's settings; any thread may use it."""
    uri = f"{file.absolute().as_uri()}?mode=rw"
    driver = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_SECONDS, check_same_thread=False)
    for pragma in PRAGMAS:
        driver.execute(pragma)
    return driver


class SqliteConnection(Connection):
    """A connection to a SQLite file."""

    __slots__ = ("_database", "_driver")

    def __init__(self, database: SqliteDatabase, driver: sqlite3.Connection, *, writes: bool) -> None:
        self._database = database
        self._driver = driver
        self.writes = writes

    def run(self, statement: str, values: Values) -> sqlite3.Cursor:
        """Run one statement and return the driver's cursor; raise ``sqlite3.Error``."""
        return self._driver.execute(statement, values)

    def select(self, statement: str, *values: Any, **parameters: Any) -> list[Row]:
        """Return all rows; raise ``TextNotUtf8Error``."""
        try:
            return self._driver.execute(statement, values or parameters).fetchall()
        except sqlite3.OperationalError as error:
            if hasattr(error, "sqlite_errorcode"):  # the driver's error for a text that is not UTF-8 has no code
                raise
            raise NotUtf8Error(str(error)) from error

    def execute_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run one statement with ``?`` placeholders for each row; return the number of changed rows."""
        return self._driver.executemany(statement, rows).rowcount

    @contextmanager
    def begin(self) -> Iterator[ExitStack]:
        """Run one transaction: commit it at the end, or roll it back on any exception.

        If it writes, it holds the write lock. The yielded stack is exited after the transaction but before the lock is
        released. Its context managers restore files outside the database if the transaction failed. Raise
        ``home_replaced`` and ``database_busy``.
        """
        database = self._database
        with (
            write_lock.acquire(database.path, database.identity, database.while_waiting)
            if self.writes
            else nullcontext(),
            ExitStack() as on_rollback,
            self._rolled_back_on_error(),
        ):
            self.start()
            if self.writes:
                self._check_not_replaced()
            yield on_rollback
            self.commit()

    def database_id(self) -> str:
        """Return the inode of the file, which it keeps when it is moved on its volume or mounted again."""
        identity = self._database.identity
        return f"sqlite:{identity[1]}" if identity else ""

    def refuse_newer(self) -> None:
        """Raise ``newer_database`` if a newer popug has migrated the database since this process opened it.

        Raise ``moved`` if its company has become a cluster since then.
        """
        version, cluster_id, gateway = self.select_one(SELECT_VERSION_AND_CLUSTER) or (None, None, "")
        if version is not None and version > NEWEST:
            raise migrated_since(self._database.path, version)
        if cluster_id is not None:
            place = self._database.path.parent
            raise cluster_state.moved(ClusterState(cluster_id, cluster_state.MOVED, gateway), place)

    def execute_in_own_transaction(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement with ``?`` placeholders for many rows in a write transaction of its own.

        Raise ``home_replaced``, ``newer_database``, ``database_busy`` or ``sqlite3.Error``.
        """
        with self.begin():
            self.refuse_newer()
            self.execute_many(statement, rows)

    def is_in_transaction(self) -> bool:
        """Return whether a transaction is open; SQLite ends it if the disk is full or fails."""
        return self._driver.in_transaction

    @property
    def changed_rows(self) -> int:
        """The number of rows that this connection has changed since it was opened."""
        return self._driver.total_changes

    def interrupt(self) -> None:
        """End the statement that another thread runs on this connection."""
        self._driver.interrupt()

    def enlarge_cache(self, kib: int) -> None:
        """Let the connection keep more of the database in memory."""
        self._driver.execute(f"PRAGMA cache_size=-{kib}")

    def start(self) -> None:
        """Begin a transaction. One that writes waits at most ``BUSY_TIMEOUT_SECONDS`` for SQLite's lock."""
        if not self.writes:
            self._driver.execute("BEGIN")
            return
        deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
        while not _try_write_lock(self._driver, is_last=time.monotonic() > deadline):
            self._database.while_waiting()

    def commit(self) -> None:
        """Commit. If that fails, make sure that nothing is committed, or raise ``in_doubt``.

        If the final sync of a commit fails, its data is already written: the next process to open the file may find
        it. A Ctrl-C during a commit that succeeds is raised again with ``PARTIAL_WORK_KEPT``.
        """
        driver = self._driver
        try:
            driver.execute("COMMIT")
        except sqlite3.Error as error:
            if driver.in_transaction:
                driver.execute("ROLLBACK")
            translated = environment_error(error, self._database.path)
            if translated is not None and error.sqlite_errorcode in FSYNC_ERRORS and not _truncate_wal(driver):
                raise in_doubt(translated) from error
            raise
        except KeyboardInterrupt as interrupt:  # raised while COMMIT waited for the disk
            if self.writes and not driver.in_transaction:
                raise KeyboardInterrupt(PARTIAL_WORK_KEPT) from interrupt
            raise

    @contextmanager
    def _rolled_back_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            if self._driver.in_transaction:
                self._driver.execute("ROLLBACK")
            raise

    def _check_not_replaced(self) -> None:
        """Raise ``home_replaced`` if the database was replaced by another file during the wait for SQLite's lock."""
        if file_id.file_id(self._database.path) != self._database.identity:
            raise replaced(self._database.path)


def _try_write_lock(driver: sqlite3.Connection, *, is_last: bool) -> bool:
    """Try to begin a write transaction; return False if another one holds the lock, or raise that error if ``is_last``.

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


def _truncate_wal(driver: sqlite3.Connection) -> bool:
    """Checkpoint and truncate the write-ahead log, so that only commits remain; return whether that was possible."""
    try:
        busy, *_ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error:
        return False
    return not busy

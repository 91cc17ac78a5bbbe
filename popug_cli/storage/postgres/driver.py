"""The driver for PostgreSQL: open connections, and begin and end their transactions."""

import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from copy import copy
from datetime import UTC, datetime
from itertools import count
from typing import Any

import psycopg
from psycopg import pq
from psycopg.adapt import Dumper, Loader
from psycopg.errors import error_from_result

from popug_cli.kernel.errors import Unavailable
from popug_cli.storage.errors import treat_garbage_as_corruption
from popug_cli.storage.migrate import NEWEST
from popug_cli.storage.port import Connection, Database, Row, Values
from popug_cli.storage.postgres import commit, errors, schema
from popug_cli.storage.postgres.dialect import copy_statement, translate
from popug_cli.storage.postgres.url import address_of, connection_parameters

MIN_SERVER_VERSION = 150_000
MIN_POOL_CONNECTIONS = 5
MIN_COPIED_ROWS = 20
STREAMED_ROWS = 1_000
LOCK_POLL_MILLISECONDS = 100
RECONNECT_SECONDS = 20.0
RECONNECT_PAUSE_SECONDS = 0.1
MAX_CLOCK_DIFFERENCE_SECONDS = 5.0
CLOCK_CHECK_SECONDS = 5.0
SESSION_SETTINGS = (
    "SET idle_in_transaction_session_timeout = '10s'; SET statement_timeout = '60s'; SET lock_timeout = '30s';"
    " SET synchronous_commit = on; SET jit = off"
)
BEGIN_AND_LOCK = b"BEGIN; SELECT id FROM bus_head WHERE id = 1 FOR UPDATE; SELECT version_num FROM alembic_version"
BEGIN_READ_ONLY = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
Driver = psycopg.Connection[Row]


class WholeNumberLoader(Loader):
    """Load ``numeric`` as int: it is the type of ``sum(bigint)``, and all numbers of popug are whole."""

    def load(self, data: Any) -> int:
        """Return the number."""
        return int(bytes(data))


class FlagDumper(Dumper):
    """Send a bool as 0 or 1: flags are integers in the tables."""

    oid = psycopg.adapters.types["int2"].oid

    def dump(self, obj: bool) -> bytes:
        """Return the digit."""
        return b"1" if obj else b"0"


class PostgresDatabase(Database):
    """The database at a URL, with a pool of idle connections.

    It keeps a connection open for each of ``threads`` threads. ``while_waiting`` is called several times a second while
    a write transaction waits for the write lock; an exception from it ends the wait. After a connection was lost, it
    tries for ``RECONNECT_SECONDS`` to reach a server that takes writes, as after a failover.
    """

    is_shared = True

    def __init__(self, url: str, *, threads: int = 1, while_waiting: Callable[[], None] = lambda: None) -> None:
        self.address = address_of(url)
        self.while_waiting = while_waiting
        self._parameters = connection_parameters(url)
        self._threads = threads
        self._idle: list[Driver] = []  # ``append`` and ``pop`` of a list are atomic
        self._reconnect_until = [0.0]  # shared with copies
        self.clock_checked_at = [float("-inf")]

    @contextmanager
    def connection(self, *, writes: bool) -> Iterator["PostgresConnection"]:
        """Yield a connection for successive transactions of one kind.

        Raise ``TransactionLost`` if nothing was changed and the work can be done again, or another error of
        ``storage.postgres.errors``.
        """
        with errors.translate_errors(self.address), treat_garbage_as_corruption(self.address, psycopg.IntegrityError):
            connection = PostgresConnection(self, self.take(), writes=writes)
            try:
                yield connection
            except BaseException as error:
                connection.put_back(may_be_reused=isinstance(error, Exception))
                raise
            connection.put_back()

    def ignoring_stop_requests(self) -> "PostgresDatabase":
        """Return the same database, but its write transactions keep waiting for the lock after a stop request."""
        uninterrupted = copy(self)  # with the same pool
        uninterrupted.while_waiting = lambda: None
        return uninterrupted

    def close(self) -> None:
        """Close all connections that are not in use."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def is_created(self) -> bool:
        """Return whether the database has a company's tables; False if it is empty.

        Raise ``newer_database``, ``older_database``, ``corrupt_database`` or ``database_unavailable``.
        """
        with errors.translate_errors(self.address):
            driver = self.take()
            try:
                return schema.is_created(driver, self.address)
            finally:
                self.put_back(driver)

    def take(self) -> Driver:
        """Return an idle connection, or a new one."""
        with suppress(IndexError):
            return self._idle.pop()
        return self.connect()

    def connect(self) -> Driver:
        """Open a connection; soon after a lost one, keep trying. Raise ``database_unavailable``."""
        while True:
            try:
                return open_session(self._parameters, self.address)
            except psycopg.Error as error:
                if time.monotonic() > self._reconnect_until[0]:
                    raise errors.connection_error(self.address, error) from error
                self.while_waiting()
                time.sleep(RECONNECT_PAUSE_SECONDS)

    def put_back(self, driver: Driver) -> None:
        """Keep a connection that is outside a transaction for later, or close it if there are enough."""
        if len(self._idle) < max(self._threads, MIN_POOL_CONNECTIONS):
            self._idle.append(driver)
        else:
            driver.close()

    def note_lost_connection(self) -> None:
        """Close the idle connections, which end with the lost one, and let ``connect`` try again for a while."""
        self._reconnect_until[0] = time.monotonic() + RECONNECT_SECONDS
        self.close()


def open_session(parameters: dict[str, Any], address: str) -> Driver:
    """Return a new connection with popug's settings.

    Raise ``psycopg.Error``, or ``database_unavailable`` for a server that is too old or in another encoding.
    """
    driver = psycopg.connect(**parameters, autocommit=True)
    try:
        if driver.info.server_version < MIN_SERVER_VERSION:
            version = driver.info.server_version // 10_000
            raise errors.unavailable(address, f"its version is {version}, popug needs 15 or later")
        if (encoding := driver.info.parameter_status("server_encoding")) != "UTF8":
            raise errors.unavailable(address, f"its encoding is {encoding}, popug needs UTF8")
        driver.adapters.register_loader("numeric", WholeNumberLoader)
        driver.adapters.register_dumper(bool, FlagDumper)
        driver.execute(SESSION_SETTINGS)
    except BaseException:
        driver.close()
        raise
    return driver


class PostgresConnection(Connection):
    """A connection to a PostgreSQL server."""

    __slots__ = ("_changed_rows", "_commit_check", "_database", "_driver", "_streams", "_version")
    computes_columns = False

    def __init__(self, database: PostgresDatabase, driver: Driver, *, writes: bool) -> None:
        self._database = database
        self._driver = driver
        self.writes = writes
        self._changed_rows = 0
        self._commit_check: tuple[str, Sequence[Any]] | None = None
        self._streams = count()
        self._version: str | None = None  # of the schema, as the transaction's first message found it

    def run(self, statement: str, values: Values) -> "psycopg.Cursor[Row]":
        """Run one statement and return the driver's cursor; raise ``psycopg.Error``."""
        cursor = self._driver.execute(translate(statement, has_values=bool(values)).encode(), values or None)
        if cursor.rowcount > 0 and not _is_query(cursor):
            self._changed_rows += cursor.rowcount
        return cursor

    def stream(self, statement: str, *values: Any, **parameters: Any) -> Iterator[Row]:
        """Return the rows, fetched while the caller iterates; other statements may run between two rows."""
        given: Any = values or parameters
        with self._driver.cursor(f"stream_{next(self._streams)}") as cursor:
            cursor.itersize = STREAMED_ROWS
            cursor.execute(translate(statement, has_values=bool(given)).encode(), given or None)
            yield from cursor

    def execute_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run one statement with ``?`` placeholders for each row; return the number of changed rows."""
        if len(rows) == 1:
            return self.run(statement, rows[0]).rowcount
        copying = copy_statement(statement) if len(rows) >= MIN_COPIED_ROWS else None
        with self._driver.cursor() as cursor:
            if copying:
                with cursor.copy(copying.encode()) as sink:
                    for row in rows:
                        sink.write_row(row)
            elif rows:
                cursor.executemany(translate(statement, has_values=True).encode(), rows)
            changed = max(cursor.rowcount, 0)
        self._changed_rows += changed
        return changed

    def insert_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run one statement with ``?`` placeholders for many rows; return the number of changed rows."""
        if len(rows) >= MIN_COPIED_ROWS and copy_statement(statement):
            return self.execute_many(statement, rows)
        return super().insert_many(statement, rows)

    @contextmanager
    def begin(self) -> Iterator[ExitStack]:
        """Run one transaction: commit it at the end, or roll it back on any exception.

        If it writes, it holds the write lock, which is a row. Raise ``database_busy``, ``clock_differs``, ``in_doubt``
        or ``TransactionLost``.
        """
        self._changed_rows, self._commit_check = 0, None
        with ExitStack() as on_rollback:
            try:
                self._start()
                if self.writes:
                    self._check_clock()
                yield on_rollback
                commit.commit(self._database, self._driver, self._commit_check, has_changed=self._changed_rows > 0)
            except BaseException:
                self._roll_back()
                raise

    def decide_commit_by(self, statement: str, *values: Any) -> None:
        """Name a query that returns a row once this transaction is committed: it decides a commit in doubt."""
        self._commit_check = (translate(statement, has_values=bool(values)), values)

    def refuse_newer(self) -> None:
        """Raise ``newer_database`` if a newer popug has migrated the database since this process opened it."""
        version = self.scalar(schema.SELECT_VERSION) if self._version is None else self._version
        if version is not None and version > NEWEST:
            raise schema.newer(self._database.address, version)

    def execute_in_own_transaction(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement with ``?`` placeholders for many rows in a write transaction of its own.

        Raise ``newer_database``, ``database_busy``, ``in_doubt`` or ``psycopg.Error``.
        """
        with self.begin():
            self.refuse_newer()
            self.execute_many(statement, rows)

    def is_in_transaction(self) -> bool:
        """Return whether a transaction is open; the end of the connection ends it."""
        return self._driver.info.transaction_status in {pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR}

    @property
    def changed_rows(self) -> int:
        """The number of rows that the present transaction has changed."""
        return self._changed_rows

    def interrupt(self) -> None:
        """End the statement that another thread runs on this connection."""
        self._driver.cancel()

    def enlarge_cache(self, kib: int) -> None:
        """Do nothing: the server has the cache."""

    def put_back(self, *, may_be_reused: bool = True) -> None:
        """Give the driver's connection back to the pool, or close it."""
        if may_be_reused and self._driver.info.transaction_status is pq.TransactionStatus.IDLE:
            self._database.put_back(self._driver)
            return
        if self._driver.broken:
            self._database.note_lost_connection()
        self._driver.close()

    def _start(self) -> None:
        """Begin a transaction; one that writes waits for the write lock. Replace an idle connection that has ended."""
        try:
            self._begin()
        except psycopg.OperationalError:
            if not self._driver.broken:
                raise
            self._database.note_lost_connection()
            self._driver = self._database.connect()
            self._begin()

    def _begin(self) -> None:
        """Send the statement that begins a transaction, and wait for its answer while signals are handled."""
        connection = self._driver.pgconn
        connection.send_query(BEGIN_AND_LOCK if self.writes else BEGIN_READ_ONLY)
        poll = select.poll()
        poll.register(connection.socket, select.POLLIN)
        try:
            while connection.is_busy():
                if poll.poll(LOCK_POLL_MILLISECONDS):
                    connection.consume_input()
                else:
                    self._database.while_waiting()
        except BaseException:
            self._driver.close()
            raise
        self._version = None
        while result := connection.get_result():
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise error_from_result(result)
            if self.writes and result.ntuples:
                self._version = (result.get_value(0, 0) or b"").decode()  # of the last statement

    def _check_clock(self) -> None:
        """Every ``CLOCK_CHECK_SECONDS``, compare the clocks; raise ``clock_differs`` if they are too far apart."""
        checked_at = self._database.clock_checked_at
        if time.monotonic() - checked_at[0] < CLOCK_CHECK_SECONDS:
            return
        difference_seconds = time.time() - float(self.scalar("SELECT extract(epoch FROM clock_timestamp())::float8"))
        if abs(difference_seconds) > MAX_CLOCK_DIFFERENCE_SECONDS:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            raise Unavailable(
                "clock_differs",
                f"The clock of this machine ({now}) and that of {self._database.address} differ by"
                f" {abs(difference_seconds):,.0f} seconds, so nothing was written.",
                hint="Set both clocks, for example with NTP, then try again.",
                details={"difference_seconds": round(difference_seconds)},
            )
        checked_at[0] = time.monotonic()

    def _roll_back(self) -> None:
        with suppress(psycopg.Error):
            if self.is_in_transaction():
                self._driver.execute("ROLLBACK")


def _is_query(cursor: "psycopg.Cursor[Row]") -> bool:
    return (cursor.statusmessage or "").startswith(("SELECT", "FETCH", "SHOW"))

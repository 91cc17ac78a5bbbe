"""The driver for PostgreSQL: open connections, and begin and end their transactions."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from copy import copy
from datetime import UTC, datetime
from itertools import chain, count
from threading import Event
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq

from popug_cli.kernel.errors import Unavailable
from popug_cli.storage.errors import treat_garbage_as_corruption
from popug_cli.storage.migrate import NEWEST
from popug_cli.storage.port import Connection, Database, Row, Values, bulk_statement
from popug_cli.storage.postgres import commit, errors, schema
from popug_cli.storage.postgres.array_insert import ArrayInsert, array_insert, statements
from popug_cli.storage.postgres.dialect import is_long, translate
from popug_cli.storage.postgres.leader_lock import PostgresLeaderLock
from popug_cli.storage.postgres.session import BEGIN, BEGIN_AND_LOCK, BEGIN_READ_ONLY, LOCK, Driver, ask, open_session
from popug_cli.storage.postgres.url import PRIMARY, address_of, connection_parameters

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

MIN_POOL_CONNECTIONS = 5
MIN_ARRAY_ROWS = 20
STATEMENTS_PER_MESSAGE = 200
ON_REPETITION = "DO UPDATE"  # such an INSERT cannot have two rows with one key
STREAMED_ROWS = 1_000
SELECT_DATABASE_ID = (
    "SELECT (SELECT system_identifier FROM pg_control_system())::text, oid::text FROM pg_database"
    " WHERE datname = current_database()"
)
SELECT_RECOVERY_TARGET = (
    "SELECT count(*) FROM pg_settings WHERE setting <> ''"
    " AND name IN ('recovery_target', 'recovery_target_lsn', 'recovery_target_name', 'recovery_target_time',"
    " 'recovery_target_xid')"
)
RECONNECT_SECONDS = 20.0
RECONNECT_PAUSE_SECONDS = 0.1
PROBE_SECONDS = 2  # the shortest time that libpq takes for connect_timeout
MAX_CLOCK_DIFFERENCE_SECONDS = 5.0
CLOCK_CHECK_SECONDS = 5.0


class PostgresDatabase(Database):
    """The database at a URL, with a pool of idle connections.

    It keeps a connection open for each of ``threads`` threads. ``while_waiting`` is called several times a second while
    a write transaction waits for the write lock; an exception from it ends the wait. After a connection was lost, it
    tries for ``RECONNECT_SECONDS`` to reach a server that takes writes, as after a failover.
    """

    is_shared = True

    def __init__(
        self,
        url: str,
        *,
        threads: int = 1,
        while_waiting: Callable[[], None] = lambda: None,
        target: str = PRIMARY,
    ) -> None:
        self.address = address_of(url)
        self.while_waiting = while_waiting
        self._parameters = connection_parameters(url, target)
        self._threads = threads
        self._idle: list[Driver] = []  # ``append`` and ``pop`` of a list are atomic
        self._reconnect_until = [0.0]  # shared with copies
        self._gives_up = Event()
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

    def leader_lock(self) -> PostgresLeaderLock:
        """Return the lock that one process of the service at a time can hold; it is not connected yet."""
        return PostgresLeaderLock(self._parameters, self.address)

    def stop_reconnecting(self) -> None:
        """Let ``connect`` raise after its first attempt, from now on, in this database and its replica."""
        self._gives_up.set()
        if self.replica is not None:
            self.replica.stop_reconnecting()

    def is_reachable(self) -> bool:
        """Return whether a server that takes writes accepts a new connection within ``PROBE_SECONDS`` for each host."""
        try:
            psycopg.connect(**{**self._parameters, "connect_timeout": PROBE_SECONDS}).close()
        except psycopg.Error:
            return False
        return True

    def close(self) -> None:
        """Close all connections that are not in use."""
        if self.replica is not None:
            self.replica.close()
        self._close_idle()

    def _close_idle(self) -> None:
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
                if error.sqlstate in errors.CONNECTION_ENDED:  # the server had accepted the connection
                    self.note_lost_connection()
                if self._gives_up.is_set() or time.monotonic() > self._reconnect_until[0]:
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
        self._close_idle()


class PostgresConnection(Connection):
    """A connection to a PostgreSQL server."""

    __slots__ = (
        "_changed_rows",
        "_commit_check",
        "_database",
        "_driver",
        "_streams",
        "_version",
        "change_number",
        "log_position",
    )
    computes_columns = False

    def __init__(self, database: PostgresDatabase, driver: Driver, *, writes: bool) -> None:
        self._database = database
        self._driver = driver
        self.writes = writes
        self.change_number = 0
        self.log_position: int | None = None
        self._changed_rows = 0
        self._commit_check: tuple[str, Sequence[Any]] | None = None
        self._streams = count()
        self._version: str | None = None  # of the schema, as the first message of a write transaction found it

    def run(self, statement: str, values: Values) -> "psycopg.Cursor[Row]":
        """Run one statement and return the driver's cursor; raise ``psycopg.Error``.

        A write transaction sends a long statement with the values written into it, as one message. A process that is
        stopped between two messages of one statement would keep the write lock without limit.
        """
        translated = translate(statement, has_values=bool(values)).encode()
        is_one_message = self.writes and is_long(statement, values)
        cursor = psycopg.ClientCursor(self._driver) if is_one_message else self._driver.cursor()
        cursor.execute(translated, values or None)
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
        may_repeat = ON_REPETITION in statement
        if len(rows) < MIN_ARRAY_ROWS:
            if len(rows) > 1 and not may_repeat and (bulk := bulk_statement(statement, len(rows))):
                return self.run(bulk, [*chain.from_iterable(rows)]).rowcount
            return sum(self.run(statement, row).rowcount for row in rows)
        insert = None if may_repeat else array_insert(statement)
        return self._insert_arrays(insert, rows) if insert else self._run_together(statement, rows)

    def _insert_arrays(self, insert: ArrayInsert, rows: Sequence[Sequence[Any]]) -> int:
        changed = 0
        with psycopg.ClientCursor(self._driver) as cursor:
            for statement in statements(insert, rows, self._driver):
                changed += cursor.execute(statement).rowcount
        self._changed_rows += changed
        return changed

    def _run_together(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run a statement for each row, with the values written into it, many in one message."""
        changed = 0
        with psycopg.ClientCursor(self._driver) as cursor:
            template = translate(statement, has_values=True)
            for start in range(0, len(rows), STATEMENTS_PER_MESSAGE):
                chunk = rows[start : start + STATEMENTS_PER_MESSAGE]
                cursor.execute(";".join(cursor.mogrify(template.encode(), row) for row in chunk).encode())
                changed += sum(max(result.rowcount, 0) for result in cursor.results())
        self._changed_rows += changed
        return changed

    def insert_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run one statement with ``?`` placeholders for many rows; return the number of changed rows."""
        if len(rows) >= MIN_ARRAY_ROWS and (insert := array_insert(statement)):
            return self._insert_arrays(insert, rows)
        return super().insert_many(statement, rows)

    @contextmanager
    def begin(self, *, creates_tables: bool = False) -> Iterator[ExitStack]:
        """Run one transaction: commit it at the end, or roll it back on any exception.

        If it writes, it holds the write lock, which is a row. With ``creates_tables``, it first applies the missing
        migrations. Raise ``database_busy``, ``clock_differs``, ``in_doubt`` or ``TransactionLost``.
        """
        self._changed_rows, self._commit_check = 0, None
        with ExitStack() as on_rollback:
            try:
                if creates_tables:
                    self._driver.execute(BEGIN)
                    schema.apply_missing(self._driver, self._database.address)
                    self._note_head(*ask(self._driver, LOCK, self._database.while_waiting))
                else:
                    self._start()
                if self.writes:
                    self._check_clock()
                yield on_rollback
                self._commit()
            except BaseException:
                self._roll_back()
                raise

    def decide_commit_by(self, statement: str, *values: Any) -> None:
        """Name a query that returns a row once this transaction is committed: it decides a commit in doubt."""
        self._commit_check = (translate(statement, has_values=bool(values)), values)

    def database_id(self) -> str:
        """Return the system identifier of the server, which its standbys share, and the OID of the database."""
        system, oid = self.run(SELECT_DATABASE_ID, ()).fetchone() or ("", "")
        return f"postgres:{system}:{oid}"

    def timeline(self) -> int:
        """Return the timeline of the server's write-ahead log, which a recovery and a promotion change."""
        return int(self.scalar("SELECT timeline_id FROM pg_control_checkpoint()"))

    def has_recovery_target(self) -> bool:
        """Return whether the server's settings name the point in time at which its recovery ended."""
        return bool(self.scalar(SELECT_RECOVERY_TARGET))

    def refuse_newer(self) -> None:
        """Raise ``newer_database`` if a newer popug has migrated the database since this process opened it."""
        version = self._version or self.scalar(schema.SELECT_VERSION)
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
        if self._driver.closed:
            self._database.note_lost_connection()
        self._driver.close()

    def _start(self) -> None:
        """Begin a transaction; one that writes waits for the write lock. Replace an idle connection that has ended."""
        try:
            self._begin()
        except psycopg.OperationalError:
            if not self._driver.closed:
                raise
            self._database.note_lost_connection()
            self._driver = self._database.connect()
            self._begin()

    def _begin(self) -> None:
        statements = BEGIN_AND_LOCK if self.writes else BEGIN_READ_ONLY
        _, *numbers = ask(self._driver, statements, self._database.while_waiting)
        self._note_head(*numbers)

    def _note_head(self, head: "PGresult", log: "PGresult", *others: "PGresult") -> None:
        """Note the numbers of the last write transaction and the last event that the transaction sees."""
        self.change_number = int(head.get_value(0, 0) or 0) if head.ntuples else 0
        self.log_position = int(log.get_value(0, 0) or 0)
        self._version = next(((row.get_value(0, 0) or b"").decode() for row in others if row.ntuples), None)

    def _commit(self) -> None:
        if self.writes:
            commit.commit(self._database, self._driver, self._commit_check, has_changed=self._changed_rows > 0)
        else:
            self._driver.execute("COMMIT")

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

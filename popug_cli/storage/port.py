"""The port to a database: the operations that the rest of popug uses.

``sqlite.py`` implements it for SQLite, ``postgres/driver.py`` for PostgreSQL.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import chain
from typing import Any, ClassVar, Protocol

from popug_cli.storage.leader_lock import LeaderLock, SoleProcess

Values = Sequence[Any] | Mapping[str, Any]
Row = tuple[Any, ...]

BULK_ROW_COUNTS = (500, 60)  # rows of one INSERT, the largest first
VALUES_PER_STATEMENT = 1_000
_ONE_ROW_OF_VALUES = re.compile(r"([^?]*\bVALUES )(\([^()]*\))([^?]*)")


class TextNotUtf8Error(Exception):
    """A text in the database is not UTF-8."""


class Cursor(Protocol):
    """The part of the DB-API's cursor (PEP 249) that the port needs."""

    @property
    def description(self) -> Any:
        """One sequence a column, which begins with the column's name."""

    @property
    def rowcount(self) -> int:
        """The number of rows that the last statement changed."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""

    def close(self) -> object:
        """End the statement."""

    def __iter__(self) -> Iterator[Any]:
        """Fetch the rows one by one."""


class Connection(ABC):
    """A connection to the database; its statements run inside the transaction that ``begin`` opens.

    A statement has ``?`` placeholders, filled by position, or ``:name`` placeholders, filled by keyword. Each method
    raises the errors of the driver, which ``Database.connection`` translates.
    """

    __slots__ = ("writes",)

    computes_columns: ClassVar[bool] = True
    """Whether the database computes the columns of ``bus_log`` that repeat fields of the envelope."""
    log_position: int | None = None
    """The position of the last event at the beginning of the transaction, if that is known without a query."""
    writes: bool
    """Whether its transactions write and therefore take the write lock."""
    change_number: int = 0
    """The number of the last write transaction that this one sees; 0 if the database does not count them."""

    @abstractmethod
    def run(self, statement: str, values: Values) -> Cursor:
        """Run one statement and return the driver's cursor."""

    @abstractmethod
    def execute_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run one statement with ``?`` placeholders for each row; return the number of changed rows."""

    @abstractmethod
    def begin(self) -> AbstractContextManager[ExitStack]:
        """Run one transaction: committed at the end, rolled back on any exception; a writing one takes the write lock.

        The yielded stack is exited after the transaction but before the lock is released. Its context managers restore
        files outside the database if the transaction failed. Raise ``home_replaced`` and ``database_busy``.
        """

    def decide_commit_by(self, statement: str, *values: Any) -> None:  # noqa: B027 - a file needs none
        """Name a query that returns a row once this transaction is committed: it decides a commit in doubt."""

    @abstractmethod
    def database_id(self) -> str:
        """Return the identity of the database, which a copy of it does not have."""

    def timeline(self) -> int:
        """Return the timeline of the database's server, which a recovery and a promotion change; 0 without a server."""
        return 0

    def has_recovery_target(self) -> bool:
        """Return whether the database's server was set up to recover to a point in time."""
        return False

    @abstractmethod
    def refuse_newer(self) -> None:
        """Raise ``newer_database`` if a newer popug has migrated the database since this process opened it.

        Raise ``moved`` if a file's company has become a cluster since then.
        """

    @abstractmethod
    def execute_in_own_transaction(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement with ``?`` placeholders for many rows in a write transaction of its own.

        Raise ``home_replaced``, ``newer_database``, ``database_busy`` or the driver's errors.
        """

    @abstractmethod
    def is_in_transaction(self) -> bool:
        """Return whether a transaction is open; some errors of the database end it."""

    @property
    @abstractmethod
    def changed_rows(self) -> int:
        """The number of rows that this connection has changed since it was opened."""

    @abstractmethod
    def interrupt(self) -> None:
        """End the statement that another thread runs on this connection."""

    @abstractmethod
    def enlarge_cache(self, kib: int) -> None:
        """Let the connection keep more of the database in memory."""

    def select(self, statement: str, *values: Any, **parameters: Any) -> list[Row]:
        """Return all rows."""
        return self.run(statement, values or parameters).fetchall()

    def select_one(self, statement: str, *values: Any, **parameters: Any) -> Row | None:
        """Return the first row, or None."""
        cursor = self.run(statement, values or parameters)
        row: Row | None = cursor.fetchone()
        cursor.close()
        return row

    def scalar(self, statement: str, *values: Any, **parameters: Any) -> Any:
        """Return the first value of the first row, or None."""
        row = self.select_one(statement, *values, **parameters)
        return row[0] if row else None

    def column(self, statement: str, *values: Any, **parameters: Any) -> list[Any]:
        """Return the first value of each row."""
        return [row[0] for row in self.run(statement, values or parameters)]

    def records(self, statement: str, *values: Any, **parameters: Any) -> list[dict[str, Any]]:
        """Return all rows as dicts by column name."""
        cursor = self.run(statement, values or parameters)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def record(self, statement: str, *values: Any, **parameters: Any) -> dict[str, Any] | None:
        """Return the first row as a dict by column name, or None."""
        return next(iter(self.records(statement, *values, **parameters)), None)

    def stream(self, statement: str, *values: Any, **parameters: Any) -> Iterator[Row]:
        """Return the rows, fetched while the caller iterates, so that only a few are in memory at a time."""
        return iter(self.run(statement, values or parameters))

    def execute(self, statement: str, *values: Any, **parameters: Any) -> int:
        """Run a statement; return the number of changed rows."""
        return self.run(statement, values or parameters).rowcount

    def insert_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run one statement with ``?`` placeholders for many rows; return the number of changed rows.

        If all placeholders are in one ``VALUES (…)``, hundreds of rows are inserted at once. That costs SQLite half as
        much if the table has references or triggers, because SQLite prepares to undo each statement.
        """
        inserted, changed = 0, 0
        for size in BULK_ROW_COUNTS:
            if len(rows) - inserted >= size and (bulk := bulk_statement(statement, size)):
                while len(rows) - inserted >= size:
                    chunk = rows[inserted : inserted + size]
                    changed += self.run(bulk, [*chain.from_iterable(chunk)]).rowcount
                    inserted += size
        if inserted < len(rows):
            changed += self.execute_many(statement, rows[inserted:])
        return changed

    def select_in(self, statement: str, values: Sequence[str], *leading_values: str) -> list[Row]:
        """Return the rows of a statement that ends in ``IN``; run it for ``VALUES_PER_STATEMENT`` values at a time.

        ``leading_values`` are the values of the statement's own ``?`` placeholders.
        """
        rows: list[Row] = []
        for chunk in _chunks(values):
            rows += self.select(f"{statement} ({_placeholders(chunk)})", *leading_values, *chunk)
        return rows

    def records_in(self, statement: str, values: Sequence[str]) -> list[dict[str, Any]]:
        """Return the rows of a statement that ends in ``IN`` as dicts; run it like ``select_in``."""
        rows: list[dict[str, Any]] = []
        for chunk in _chunks(values):
            rows += self.records(f"{statement} ({_placeholders(chunk)})", *chunk)
        return rows

    @contextmanager
    def savepoint(self, *, keep: bool = True) -> Iterator[None]:
        """Undo what the block changed if it raises, or at its end unless ``keep``."""
        self.run("SAVEPOINT nested", ())
        try:
            yield
        except BaseException:
            if self.is_in_transaction():
                self._undo_savepoint()
            raise
        if keep:
            self.run("RELEASE SAVEPOINT nested", ())
        else:
            self._undo_savepoint()

    def _undo_savepoint(self) -> None:
        self.run("ROLLBACK TO SAVEPOINT nested", ())
        self.run("RELEASE SAVEPOINT nested", ())


class Database(ABC):
    """One company's database, with connections that its threads share."""

    @abstractmethod
    def connection(self, *, writes: bool) -> AbstractContextManager[Connection]:
        """Yield a connection for successive transactions of one kind; raise the errors of ``storage.errors``."""

    replica: "Database | None" = None
    """A copy of the database for queries, which may be behind."""
    is_shared: bool = False
    """Whether several homes may use the database, each with keys of its own."""
    address: str = ""
    """The text that names a database on a server in messages; empty for a file in a home."""

    @abstractmethod
    def ignoring_stop_requests(self) -> "Database":
        """Return the same database, whose write transactions wait for the lock although the process should stop."""

    def stop_reconnecting(self) -> None:  # noqa: B027 - a file needs no connection
        """Let no thread wait any longer for a server that cannot be reached, because the process ends."""

    def is_reachable(self) -> bool:
        """Return whether the database can be opened now; a server has about two seconds to answer."""
        return True

    @abstractmethod
    def close(self) -> None:
        """Close all connections that are not in use."""

    def leader_lock(self) -> LeaderLock:
        """Return the lock that one process of a service at a time can hold."""
        return SoleProcess()

    @contextmanager
    def transaction(self, *, writes: bool) -> Iterator[Connection]:
        """Yield a connection in one transaction: committed at the end, rolled back on any exception.

        A write transaction takes the write lock at its start. The caller must not write in a read transaction. Raise
        the errors of ``storage.errors``.
        """
        with self.connection(writes=writes) as connection, connection.begin():
            yield connection

    @contextmanager
    def write_transaction(self) -> Iterator[tuple[Connection, ExitStack]]:
        """Yield a connection in a write transaction, and the stack of ``Connection.begin``.

        Raise ``newer_database`` and the errors of ``storage.errors``.
        """
        with self.connection(writes=True) as connection, connection.begin() as on_rollback:
            connection.refuse_newer()
            yield connection, on_rollback


def bulk_statement(statement: str, row_count: int) -> str | None:
    """Return the statement for several rows, or None if its ``?`` placeholders are not all in one ``VALUES (…)``."""
    parts = _ONE_ROW_OF_VALUES.fullmatch(statement)
    return f"{parts[1]}{', '.join([parts[2]] * row_count)}{parts[3]}" if parts else None


def _chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), VALUES_PER_STATEMENT):
        yield values[start : start + VALUES_PER_STATEMENT]


def _placeholders(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))

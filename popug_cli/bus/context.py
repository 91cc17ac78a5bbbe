"""The context of a handler, and the runtime that opens its transactions."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import Lock
from typing import Any

from popug_cli.bus.log import Log
from popug_cli.bus.publisher import Publisher
from popug_cli.kernel.calendar import Calendar
from popug_cli.kernel.clock import Clock
from popug_cli.kernel.home import Home
from popug_cli.kernel.progress import Progress
from popug_cli.kernel.randomness import Draws, RandomSource, uuid7
from popug_cli.kernel.settings import Settings
from popug_cli.messages.principal import Principal
from popug_cli.storage.port import Connection, Database


@dataclass(frozen=True, slots=True)
class PasswordWork:
    """Results about the password of a message, computed before its transaction.

    ``new_hash`` is its hash. ``matches`` says whether it is the password of ``compared_hash``.
    """

    new_hash: str | None = None
    compared_hash: str | None = None
    matches: bool | None = None


@dataclass(slots=True)
class Context:
    """Everything that a handler works with, inside one transaction.

    ``now`` is read at the start, in a write transaction under the write lock. ``position`` is the end of the log at the
    start; for a consumer of new events, the position that its batch reaches. ``draws`` makes the seed of each draw.
    ``password_work`` was computed before the transaction. ``on_rollback`` holds context managers that are exited when a
    write transaction has ended, and that undo changes outside the database if it failed. ``service`` is that of the
    runtime.
    """

    connection: Connection
    now: datetime
    position: int
    principal: Principal
    log: Log
    events: Publisher
    randomness: RandomSource
    draws: Draws
    calendar: Calendar
    settings: Settings
    home: Home
    home_id: str
    progress: Progress
    on_rollback: ExitStack
    password_work: PasswordWork = PasswordWork()
    service: str = ""

    def at_position(self, position: int) -> "Context":
        """Return the same context at another position."""
        return replace(self, position=position)


SELECT_OWN_LINK = "SELECT 1 FROM bus_links WHERE last_sequence = ? AND hash = ?"
LOG_ID_DIGITS = 8

WriteStatement = Callable[[str, Sequence[Sequence[Any]]], None]


def digits_of(log_id: str) -> str:
    """Return the digits of a log's id that distinguish it from others: the last ones, since the first are the time."""
    return log_id[-LOG_ID_DIGITS:]


def _ignore_change(principal: Principal) -> None:
    """Do nothing: the default of ``on_change``."""


class Newest:
    """The newest known state of a database: its last log position, and the number of its last write transaction.

    ``on_growth`` is called, in any thread, when the position has grown.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self.position = 0
        self.change_number = 0
        self.on_growth: Callable[[], None] = lambda: None

    def note(self, position: int, change_number: int) -> None:
        """Raise the numbers to those of a transaction; they never fall."""
        with self._lock:
            has_grown = position > self.position
            self.position = max(self.position, position)
            self.change_number = max(self.change_number, change_number)
        if has_grown:
            self.on_growth()


@dataclass(frozen=True, slots=True)
class Runtime:
    """The wired parts of one company.

    ``write_lock`` is held around each write transaction; if threads share the company, it excludes the other threads.
    ``on_change`` is called after each transaction of ``writing`` that changed something, with its principal.
    ``newest`` is the newest state of the database that a transaction of this process has seen or made. ``service`` is
    the service of a cluster that the database belongs to, or empty if the database has the whole company;
    ``service_log_id`` is the id of its log.
    """

    database: Database
    home: Home
    home_id: str
    calendar: Calendar
    settings: Settings
    clock: Clock
    randomness: RandomSource
    draws: Draws
    progress: Progress
    write_lock: Callable[[], AbstractContextManager[None]] = nullcontext
    on_change: Callable[[Principal], None] = _ignore_change
    newest: Newest = field(default_factory=Newest)
    service: str = ""
    service_log_id: str = ""

    @property
    def log_id(self) -> str:
        """The digits that distinguish this log from the logs of other companies and services."""
        return digits_of(self.service_log_id or self.home_id)

    @contextmanager
    def writing(self, principal: Principal) -> Iterator[Context]:
        """Yield the context of a write transaction; link its events into the hash chain before the commit.

        Raise the errors of ``storage.port.Database.write_transaction``.
        """
        with self.write_lock():
            with self.database.write_transaction() as (connection, on_rollback):
                changes = connection.changed_rows
                context = self._context(connection, principal, on_rollback)
                yield context
                last = context.events.last_position
                if last >= 0:
                    connection.decide_commit_by(SELECT_OWN_LINK, last, context.events.close_link())
                has_changed = connection.changed_rows != changes
            self.newest.note(max(context.position, last), connection.change_number)
            if has_changed:
                self.on_change(principal)

    def ignoring_stop_requests(self) -> "Runtime":
        """Return a runtime for writes that must happen: a stop request does not end the wait for the write lock."""
        return replace(self, database=self.database.ignoring_stop_requests())

    @contextmanager
    def statement_writer(self) -> Iterator[WriteStatement]:
        """Yield a function that runs one statement in its own transaction, much cheaper than ``writing``.

        It publishes nothing and does not call ``on_change``; the caller must publish the resulting events later.
        """
        with self.database.connection(writes=True) as connection:

            def write(statement: str, rows: Sequence[Sequence[Any]]) -> None:
                with self.write_lock():
                    connection.execute_in_own_transaction(statement, rows)

            yield write

    @contextmanager
    def reading(self, principal: Principal) -> Iterator[Context]:
        """Yield a context whose queries all see one snapshot; the caller must not write."""
        with self.database.transaction(writes=False) as connection:
            yield self._context(connection, principal, ExitStack())

    def _context(self, connection: Connection, principal: Principal, on_rollback: ExitStack) -> Context:
        log = Log(connection)
        known = connection.log_position
        position = log.last_position() if known is None else known
        if not connection.writes:
            self.newest.note(position, connection.change_number)
        now = self.clock.now()
        return Context(
            connection=connection,
            now=now,
            position=position,
            principal=principal,
            log=log,
            events=Publisher(
                connection, now, self.randomness, principal.username, uuid7(now, self.randomness), position
            ),
            randomness=self.randomness,
            draws=self.draws,
            calendar=self.calendar,
            settings=self.settings,
            home=self.home,
            home_id=self.home_id,
            progress=self.progress,
            on_rollback=on_rollback,
            service=self.service,
        )

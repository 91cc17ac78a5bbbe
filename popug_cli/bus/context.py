"""What a running popug holds, and the transactions in which handlers work."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine

from popug_cli.bus.log import Log
from popug_cli.bus.publisher import Publisher
from popug_cli.kernel.calendar import Calendar
from popug_cli.kernel.clock import Clock
from popug_cli.kernel.home import Home
from popug_cli.kernel.progress import Progress
from popug_cli.kernel.randomness import RandomSource, uuid7
from popug_cli.kernel.settings import Settings
from popug_cli.messages.principal import Principal
from popug_cli.storage.engine import (
    execute_in_own_transaction,
    open_connection,
    raw_connection,
    transaction,
    write_transaction,
)


@dataclass(frozen=True, slots=True)
class PasswordWork:
    """What was computed about the password of a message before its transaction.

    ``new_hash`` is its hash. ``matches`` says whether it is the password of ``compared_hash``.
    """

    new_hash: str | None = None
    compared_hash: str | None = None
    matches: bool | None = None


@dataclass(slots=True)
class Context:
    """All that a handler works with, inside one transaction.

    ``now`` is read after the write lock is held. ``position`` is the log position up to which the handler's own
    module has taken in what others said. ``password_work`` was computed before the transaction began.
    ``on_rollback`` hears how the transaction ended.
    """

    connection: Connection
    now: datetime
    position: int
    principal: Principal
    log: Log
    events: Publisher
    randomness: RandomSource
    calendar: Calendar
    settings: Settings
    home: Home
    home_id: str
    progress: Progress
    on_rollback: ExitStack
    password_work: PasswordWork = PasswordWork()

    def at_position(self, position: int) -> "Context":
        """The same context at another position."""
        return replace(self, position=position)


WriteStatement = Callable[[str, Sequence[Sequence[Any]]], None]


def _go_on() -> None:
    """Wait on."""


def _ignore(principal: Principal) -> None:
    """Nobody asks who has changed something."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """The wired parts of one company.

    ``turn`` is held around each write, where threads share the company; ``on_change`` hears who has changed something.
    """

    engine: Engine
    home: Home
    home_id: str
    calendar: Calendar
    settings: Settings
    clock: Clock
    randomness: RandomSource
    progress: Progress
    write_lock: Callable[[], AbstractContextManager[None]] = nullcontext
    on_change: Callable[[Principal], None] = _ignore

    @contextmanager
    def writing(self, principal: Principal) -> Iterator[Context]:
        """One transaction under the write lock; what was published is linked into the chain before the commit."""
        with self.write_lock():
            with write_transaction(self.engine) as (connection, on_rollback):
                driver = raw_connection(connection)
                changes = driver.total_changes
                context = self._context(connection, principal, on_rollback)
                yield context
                context.events.close_link()
                has_changed = driver.total_changes != changes
            if has_changed:
                self.on_change(principal)

    def patient(self) -> "Runtime":
        """Return the runtime for what must be written down: a stop request does not end its wait for the write lock."""
        return replace(self, engine=self.engine.execution_options(popug_while_waiting=_go_on))

    @contextmanager
    def statement_writer(self) -> Iterator[WriteStatement]:
        """A way to change rows by a statement at a fraction of the cost of ``writing``, again and again.

        Each time is a transaction of its own, in which nothing is published; what follows from it is owed.
        """
        with open_connection(self.engine, writes=True) as connection:

            def write(statement: str, rows: Sequence[Sequence[Any]]) -> None:
                with self.write_lock():
                    execute_in_own_transaction(connection, statement, rows)

            yield write

    @contextmanager
    def reading(self, principal: Principal) -> Iterator[Context]:
        """One snapshot that is never written to."""
        with transaction(self.engine, writes=False) as connection:
            yield self._context(connection, principal, ExitStack())

    def _context(self, connection: Connection, principal: Principal, on_rollback: ExitStack) -> Context:
        log = Log(connection)
        position = log.last_position()
        now = self.clock.now()
        return Context(
            connection=connection,
            now=now,
            position=position,
            principal=principal,
            log=log,
            events=Publisher(connection, now, self.randomness, principal.username, uuid7(now, self.randomness)),
            randomness=self.randomness,
            calendar=self.calendar,
            settings=self.settings,
            home=self.home,
            home_id=self.home_id,
            progress=self.progress,
            on_rollback=on_rollback,
        )

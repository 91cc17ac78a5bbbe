"""What a running popug holds, and the transactions in which handlers work."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine

from popug_cli.bus.log import Log
from popug_cli.bus.publisher import Publisher
from popug_cli.kernel.calendar import Calendar
from popug_cli.kernel.chance import Chance, uuid7
from popug_cli.kernel.clock import Clock
from popug_cli.kernel.home import Home
from popug_cli.kernel.progress import Progress
from popug_cli.kernel.settings import Settings
from popug_cli.messages.principal import Principal
from popug_cli.storage.engine import driver_of, open_connection, transaction, write_alone, write_transaction

Prepared = Mapping[tuple[str, str | None], str | bool]


@dataclass(slots=True)
class Context:
    """All that a handler works with, inside one transaction.

    ``now`` is read after the write lock is held. ``position`` is the log position up to which the handler's own
    module has taken in what others said. ``prepared`` is what was worked out before the transaction began. ``beside``
    hears how the transaction ended.
    """

    connection: Connection
    now: datetime
    position: int
    principal: Principal
    log: Log
    events: Publisher
    chance: Chance
    calendar: Calendar
    settings: Settings
    home: Home
    home_id: str
    progress: Progress
    beside: ExitStack
    prepared: Prepared = field(default_factory=dict)

    def at(self, position: int) -> "Context":
        """The same context at another position."""
        return replace(self, position=position)


Note = Callable[[str, Sequence[Sequence[Any]]], None]


def _go_on() -> None:
    """Wait on."""


def _unheard(principal: Principal) -> None:
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
    chance: Chance
    progress: Progress
    turn: Callable[[], AbstractContextManager[None]] = nullcontext
    on_change: Callable[[Principal], None] = _unheard

    @contextmanager
    def writing(self, principal: Principal) -> Iterator[Context]:
        """One transaction under the write lock; what was published is linked into the chain before the commit."""
        with self.turn():
            with write_transaction(self.engine) as (connection, beside):
                driver = driver_of(connection)
                changes = driver.total_changes
                context = self._context(connection, principal, beside)
                yield context
                context.events.end_run()
                has_changed = driver.total_changes != changes
            if has_changed:
                self.on_change(principal)

    def patient(self) -> "Runtime":
        """Return the runtime for what must be written down: a stop request does not end its wait for the write lock."""
        return replace(self, engine=self.engine.execution_options(popug_while_waiting=_go_on))

    @contextmanager
    def noting(self) -> Iterator[Note]:
        """A way to change rows by a statement at a fraction of the cost of ``writing``, again and again.

        Each time is a transaction of its own, in which nothing is published; what follows from it is owed.
        """
        with open_connection(self.engine, writes=True) as connection:

            def note(statement: str, rows: Sequence[Sequence[Any]]) -> None:
                with self.turn():
                    write_alone(connection, statement, rows)

            yield note

    @contextmanager
    def reading(self, principal: Principal) -> Iterator[Context]:
        """One snapshot that is never written to."""
        with transaction(self.engine, writes=False) as connection:
            yield self._context(connection, principal, ExitStack())

    def _context(self, connection: Connection, principal: Principal, beside: ExitStack) -> Context:
        log = Log(connection)
        position = log.head()
        now = self.clock.now()
        return Context(
            connection=connection,
            now=now,
            position=position,
            principal=principal,
            log=log,
            events=Publisher(connection, now, self.chance, principal.username, uuid7(now, self.chance)),
            chance=self.chance,
            calendar=self.calendar,
            settings=self.settings,
            home=self.home,
            home_id=self.home_id,
            progress=self.progress,
            beside=beside,
        )

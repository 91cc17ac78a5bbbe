"""The program of one service in the simulation, and the points at which it may be killed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Protocol

from popug_cli import bootstrap
from popug_cli.app import LocalBackend
from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Context, Runtime
from popug_cli.messages.base import Message
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.bus import RetryDeadLetters
from popug_cli.messages.principal import OPERATOR, Principal
from popug_cli.storage.port import Connection, Database
from tests.simulation import place
from tests.simulation.chance import NamedChance
from tests.simulation.injected_faults import PLANNED, Crash, Disturbed
from tests.simulation.linked import versions
from tests.simulation.linked.trace import Consumed, Performed

# These run several transactions, or again until they are done, and no other run repeats their ids.
UNNAMED = (CloseDay, RetryDeadLetters)


class Recorder(Protocol):
    """The world as a service sees it."""

    chance: NamedChance
    publishes_newer: bool

    def refuses(self, service: str, event: Any) -> bool:
        """Return whether a consumer must fail on an event."""
        ...

    def begun(self, service: str) -> None:
        """A write transaction begins."""
        ...

    def about_to_commit(self, service: str) -> None:
        """A write transaction is about to be committed; raise ``Crash`` if the process is killed here."""
        ...

    def committed(self, service: str) -> None:
        """A write transaction was committed; raise ``Crash`` if the process is killed here."""
        ...

    def handled(self, backend: "ServiceBackend", message: Message[Any], context: Context, start: int) -> None:
        """A command made its changes, and its transaction goes on."""
        ...

    def delivered(self, backend: "ServiceBackend", events: Sequence[Any], context: Context, start: int) -> None:
        """A consumer made its changes, and its transaction goes on."""
        ...


class ServiceDatabase(Database):
    """A service's database, whose write transactions may end in a kill."""

    def __init__(self, undisturbed: Database, service: str, recorder: Recorder) -> None:
        self.undisturbed = undisturbed
        self.is_shared = undisturbed.is_shared
        self._service = service
        self._recorder = recorder

    def connection(self, *, writes: bool) -> AbstractContextManager[Connection]:
        return self.undisturbed.connection(writes=writes)

    @contextmanager
    def write_transaction(self) -> Iterator[tuple[Connection, ExitStack]]:
        self._recorder.begun(self._service)
        with self.undisturbed.write_transaction() as begun:
            yield begun
            self._recorder.about_to_commit(self._service)
        self._recorder.committed(self._service)

    def ignoring_stop_requests(self) -> Database:
        return self

    def close(self) -> None:
        self.undisturbed.close()


@dataclass
class Kill:
    """The next kill of a process: at the n-th transaction from now, before or after its commit."""

    transactions: int = 0
    where: str = ""

    def is_due(self, where: str) -> bool:
        """Return whether the process is killed here."""
        return self.where == where and self.transactions <= 0

    def happen(self) -> Crash:
        """Return the error of the kill, which happens once."""
        self.where = ""
        return Crash()


class ServiceBackend(LocalBackend):
    """The backend of a service, or of the one process that repeats what five did.

    ``place`` is that of the command that it performs; the ids that a command makes depend on it alone, unless the
    command is one of ``UNNAMED``.
    """

    recorder: Recorder
    service: str = ""
    place: int = -1
    actor: Principal = OPERATOR
    entry: str = ""

    @cached_property
    def runtime(self) -> Runtime:
        """Return the open home, whose transactions and draws are the world's."""
        runtime = super().runtime
        runtime.database.close()
        database = ServiceDatabase(place.open_database(self.home), self.service, self.recorder)
        return replace(runtime, database=database, draws=NamedDraws(self.recorder.chance))

    @cached_property
    def consumers(self) -> tuple[Consumer, ...]:
        """Return the service's consumers, which report what they are given."""
        real = bootstrap.consumers(self.runtime.service)
        return tuple(versions.upgraded(replace(each, consume=partial(self._consume, each))) for each in real)

    def write(self, message: Message[Any], principal: Principal, handle: Callable[[Context], Any]) -> Any:
        """Let the ids that a command makes depend on the command, and report it."""

        def own_work(context: Context) -> Any:
            start = context.position
            if isinstance(message, UNNAMED):
                result = handle(context)
            else:
                newer = self.service == "identity" and self.recorder.publishes_newer
                with self.recorder.chance.purpose("command", self.place), versions.published(newer=newer):
                    result = handle(context)
            if context.events.last_position >= 0:
                self.recorder.handled(self, message, context, start)
            return result

        return super().write(message, principal, own_work)

    def _consume(self, consumer: Consumer, events: Sequence[Any], context: Context) -> None:
        if any(self.recorder.refuses(consumer.name, event) for event in events):
            raise Disturbed(PLANNED)
        start = context.log.last_position()
        consumer.consume(events, context)
        if consumer.name == self.service:  # not that of tokens
            self.recorder.delivered(self, events, context, start)


@dataclass
class NamedDraws:
    """Seeds of draws by their purpose and subject."""

    chance: NamedChance

    def new_seed(self, purpose: str, subject: str) -> str:
        """Return the seed of a draw by its name."""
        return self.chance.new_seed(purpose, subject)


@dataclass
class Uncommitted:
    """The uncommitted steps of a service's present transaction."""

    steps: list[Performed | Consumed] = field(default_factory=list)
    is_command: bool = False

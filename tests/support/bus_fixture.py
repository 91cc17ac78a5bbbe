"""A toy consumer with a table of effects, on a real home, for tests of the bus."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from popug_cli import bootstrap
from popug_cli.bus.catch_up import CatchUpResult, catch_up
from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Context, Runtime
from popug_cli.kernel.home import Home
from popug_cli.messages.base import Event, Role
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.identity import UserDeactivated, UserRegistered
from popug_cli.messages.principal import OPERATOR
from tests.support.company import SeededChance, SetClock


@dataclass
class BusFixture:
    """A home with one consumer that records what it consumes, and fails for the subjects in `failing`."""

    root: Path
    name: str = "toy"
    failing: set[str] = field(default_factory=set)
    error: Exception = field(default_factory=lambda: RuntimeError("broken"))
    clock: SetClock = field(default_factory=SetClock)

    def __post_init__(self) -> None:
        bootstrap.found_company(Home(self.root), "Europe/Berlin", clock=self.clock, randomness=SeededChance())
        self.runtime: Runtime = bootstrap.open_runtime(Home(self.root), clock=self.clock, randomness=SeededChance())
        self.consumer = Consumer(self.name, (UserRegistered, UserDeactivated), self._consume)
        with self.runtime.writing(OPERATOR) as context:
            context.connection.execute(
                "CREATE TABLE toy_effects (position INTEGER PRIMARY KEY, subject TEXT, event_id TEXT, kind TEXT)"
            )

    def publish(self, *subjects: str) -> list[str]:
        """Publish one registration for each subject in one transaction. Return the ids of the events."""
        with self.runtime.writing(OPERATOR) as context:
            return [context.events.publish(registration(subject)) for subject in subjects]

    def append_unlinked(self, envelope: str) -> None:
        """Append a row with an envelope only, as tests and migrations may."""
        with self.runtime.writing(OPERATOR) as context:
            context.connection.execute("INSERT INTO bus_log (envelope) VALUES (?)", envelope)

    def catch_up(self, *, include_not_due: bool = False) -> CatchUpResult:
        return catch_up(self.runtime, [self.consumer], include_not_due=include_not_due)

    def effects(self) -> list[str]:
        """Return the consumed subjects, in order."""
        return [str(row["subject"]) for row in self.rows("SELECT subject FROM toy_effects ORDER BY position")]

    def rows(self, statement: str) -> list[dict[str, object]]:
        with self.runtime.reading(OPERATOR) as context:
            return context.connection.records(statement)

    def execute(self, statement: str) -> None:
        with self.runtime.writing(OPERATOR) as context:
            context.connection.execute(statement)

    def _consume(self, events: Sequence[Delivered[Event]], context: Context) -> None:
        context.connection.insert_many(
            "INSERT INTO toy_effects (subject, event_id, kind) VALUES (?, ?, ?)",
            [(event.subject, event.id, type(event.data).NAME) for event in events],
        )
        if any(event.subject in self.failing for event in events):
            raise self.error


def registration(subject: str) -> UserRegistered:
    """Return the registration of a user whose id and name are the subject."""
    return UserRegistered(user_id=subject, username=subject, email=f"{subject}@example.com", role=Role.WORKER)


NO_SPACE = OSError(28, "No space left on device")


@dataclass
class RecordingConsumer:
    """A consumer that records its batches of events and the end position of each."""

    name: str
    event_types: tuple[type[Event], ...] = (UserRegistered,)
    error: Exception | None = None
    chunks: list[tuple[list[int], int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.consumer = Consumer(self.name, self.event_types, self._consume)

    def _consume(self, events: Sequence[Delivered[Event]], context: Context) -> None:
        if self.error:
            raise self.error
        self.chunks.append(([event.sequence for event in events], context.position))


def parked_events(toy: BusFixture) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in toy.rows("SELECT sequence, state, attempts FROM bus_set_aside ORDER BY id")]


def cursors(toy: BusFixture) -> dict[object, object]:
    return {row["consumer"]: row["position"] for row in toy.rows("SELECT consumer, position FROM bus_cursors")}

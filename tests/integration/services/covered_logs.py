"""Five services that copy their logs to each other at random pace, and a caller who asks them in turn.

The services, their consumers and the topics are modelled here. The records, the decision about each, and what a service
covers are those of the program, or of a copy of it with a planted bug.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

from popug_cli.bus import relay, streams
from popug_cli.bus.context import digits_of
from popug_cli.bus.records import EventRecord, TopicRecord, parse_record
from popug_cli.bus.relay import Claim, OwnEvent
from popug_cli.bus.service import coverage
from popug_cli.bus.streams import StreamState
from popug_cli.kernel.positions import Position, Positions, merge

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
SERVICES = ("identity", "tasks", "billing", "analytics", "mail")
PUBLISHERS = ("identity", "tasks", "billing")
HEARS = {
    "identity": (),
    "tasks": ("identity", "billing"),
    "billing": ("identity", "tasks"),
    "analytics": ("identity", "tasks", "billing"),
    "mail": ("identity", "billing"),
}
LINKS = [(name, origin) for name, origins in HEARS.items() for origin in origins]
# The services by which an event of an origin has further effects at a service.
BY = {
    ("billing", "identity"): ("tasks",),
    ("analytics", "identity"): ("tasks", "billing"),
    ("mail", "identity"): ("tasks", "billing"),
    ("analytics", "tasks"): ("billing",),
    ("mail", "tasks"): ("billing",),
}
CAUSES_EFFECTS = {("tasks", "identity"), ("billing", "tasks")}
LIMITS = (1_000, 1)
MAX_CALLERS = 8

Operation = tuple[str, int, int]


class Event(NamedTuple):
    """An event: ``effects`` is the number of events that the next service publishes when it consumes this one.

    It has a ``cause`` if it is such an effect.
    """

    id: str
    origin: str
    position: int
    effects: int
    cause: str


@dataclass
class Service:
    """A service: its log, of which it has consumed the first ``cursor`` events, and the logs that it receives."""

    name: str
    log: list[Event] = field(default_factory=list)
    cursor: int = 0
    streams: dict[str, StreamState] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)
    topic: list[TopicRecord] = field(default_factory=list)
    relayed: int = 0
    effects: dict[str, list[Event]] = field(default_factory=dict)

    @property
    def log_id(self) -> str:
        return _log_id(self.name)

    def own(self) -> list[Event]:
        return [event for event in self.log if event.origin == self.name]

    def has_consumed(self, event: Event) -> bool:
        return event in self.log[: self.cursor]

    def subscribes(self, event: Event) -> bool:
        """Return whether the service stores an event; what tasks does for identity, only billing stores."""
        if event.origin == "tasks" and event.cause and self.name != "billing":
            return False
        return event.origin in HEARS[self.name] and (int(event.id[1:]) + len(self.name)) % 5 > 0


@dataclass
class Caller:
    """A caller: the positions of all its answers, and the events that it has seen there."""

    positions: Positions = field(default_factory=dict)
    seen: dict[str, Event] = field(default_factory=dict)

    def see(self, events: Sequence[Event], positions: Mapping[str, Position]) -> None:
        self.seen |= {event.id: event for event in events}
        self.positions = merge(self.positions, positions)


@dataclass
class CoveredLogs:
    """All of it; each operation takes two digits and does nothing if it is not possible now.

    ``program`` has the functions of the program that a planted bug may change.
    """

    program: Any = field(
        default_factory=lambda: SimpleNamespace(
            records_of=relay.records_of,
            decide=streams.decide,
            received_log=coverage.received_log,
            covered_positions=coverage.covered_positions,
            uncovered=coverage.uncovered,
        )
    )
    events: int = 0
    covered_answers: int = 0
    callers: list[Caller] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.services = {name: Service(name) for name in SERVICES}
        for name, origins in HEARS.items():
            for origin in origins:
                self.services[name].streams[origin] = StreamState(log_id=_log_id(origin))
                self.services[name].offsets[origin] = 0

    def run(self, operations: Sequence[Operation]) -> None:
        """Do the operations; then deliver everything, and check that all is covered at the end."""
        for name, first, second in operations:
            getattr(self, name)(first, second)
        self._end()

    def command(self, first: int, second: int) -> None:
        """Publish an event for a new caller, who knows it from the answer."""
        service = self.services[PUBLISHERS[first % len(PUBLISHERS)]]
        event = self._publish(service, second % 4)
        self.callers = [*self.callers[-MAX_CALLERS:], Caller()]
        self.callers[-1].see([event], {service.name: Position(event.position, digits_of(service.log_id))})

    def query(self, first: int, second: int) -> None:
        """Ask a service for each caller; a covered answer must show what that one has seen.

        One of them gets the answer, and sees all that the service has published.
        """
        service = self.services[SERVICES[first % len(SERVICES)]]
        logs = self._received(service)
        for caller in self.callers:
            if not self.program.uncovered(service.name, logs, caller.positions):
                self.covered_answers += 1
                self._check_shown_to(caller, service)
        if self.callers and (own := service.own()):
            position = Position(own[-1].position, digits_of(service.log_id))
            self.callers[second % len(self.callers)].see(own, {service.name: position})

    def relay(self, first: int, second: int) -> None:
        """Claim, and send all of it, or die before the position is stored, so that it is sent again."""
        service = self.services[PUBLISHERS[first % len(PUBLISHERS)]]
        claim = self._claim(service, LIMITS[second % len(LIMITS)])
        service.topic += self.program.records_of(claim)
        if second < 8:
            service.relayed = claim.end

    def receive(self, first: int, second: int) -> None:
        """Take some records of one topic."""
        name, origin = LINKS[first % len(LINKS)]
        self._take(self.services[name], origin, 1 + first + second)

    def consume(self, first: int, second: int) -> None:
        """Consume some events of one service in one transaction."""
        service = self.services[SERVICES[1 + first % 4]]
        for event in service.log[service.cursor : service.cursor + 1 + second]:
            self._consume(service, event)

    def deliver(self, first: int, second: int) -> None:
        """Bring what one service has published to another one, which may consume all that it has received."""
        name, origin = LINKS[first % len(LINKS)]
        self.relay(PUBLISHERS.index(origin), second // 3)
        self._take(self.services[name], origin, 1_000)
        if second % 3:
            self.consume(SERVICES.index(name) - 1, 1_000)

    # --- what must hold -------------------------------------------------------------------------

    def _check_shown_to(self, caller: Caller, service: Service) -> None:
        for event in caller.seen.values():
            if event.origin in HEARS[service.name]:
                self._check_shown(service, event)

    def _check_shown(self, service: Service, event: Event) -> None:
        if service.subscribes(event):
            assert service.has_consumed(event), f"{service.name} lacks an event of {event.origin}"
        for name in BY.get((service.name, event.origin), ()):
            by = self.services[name]
            if not by.subscribes(event):
                continue
            assert by.has_consumed(event), f"{service.name} lacks effects at {name} of an event of {event.origin}"
            for effect in by.effects.get(event.id, []):
                self._check_shown(service, effect)

    def _end(self) -> None:
        """Deliver and consume everything; nothing is behind then."""
        for _ in range(4):
            for service in self.services.values():
                service.relayed = self._relay_all(service)
                for receiver in self.services.values():
                    if service.name in receiver.streams:
                        self._take(receiver, service.name, 1_000_000)
            for number in range(len(SERVICES)):
                self.consume(number, 1_000_000)
        before = self.covered_answers
        for number in range(len(SERVICES)):
            self.query(number, 0)
        expected = before + len(SERVICES) * len(self.callers)
        assert self.covered_answers == expected, "something is behind for ever"

    # --- parts ----------------------------------------------------------------------------------

    def _publish(self, service: Service, effects: int, cause: str = "") -> Event:
        self.events += 1
        event = Event(f"e{self.events}", service.name, len(service.log) + 1, effects, cause)
        service.log.append(event)
        return event

    def _consume(self, service: Service, event: Event) -> None:
        service.cursor += 1
        if (service.name, event.origin) in CAUSES_EFFECTS:
            effects = [self._publish(service, number, event.id) for number in range(event.effects)]
            service.effects[event.id] = effects

    def _received(self, service: Service) -> dict[str, Any]:
        pending = service.log[service.cursor :]
        return {
            origin: self.program.received_log(
                state, [next((event.position for event in pending if event.origin == origin), None)]
            )
            for origin, state in service.streams.items()
        }

    def _claim(self, service: Service, limit: int) -> Claim:
        own = [(index, event) for index, event in enumerate(service.log, start=1) if event.origin == service.name]
        following = [event for index, event in own if index > service.relayed]
        before = [event for index, event in own if index <= service.relayed]
        return Claim(
            log_id=service.log_id,
            start=service.relayed,
            previous=before[-1].position if before else 0,
            previous_id=before[-1].id if before else "",
            events=[OwnEvent(event.position, event.id, _envelope_of(event)) for event in following[:limit]],
            is_drained=len(following) < limit,
            head=len(service.log),
            includes=self.program.covered_positions(service.name, self._received(service)),
        )

    def _relay_all(self, service: Service) -> int:
        claim = self._claim(service, 1_000_000)
        service.topic += self.program.records_of(claim)
        return claim.end

    def _take(self, service: Service, origin: str, count: int) -> None:
        publisher = self.services[origin]
        by_id = {event.id: event for event in publisher.own()}
        start = service.offsets[origin]
        for topic_record in publisher.topic[start : start + count]:
            service.offsets[origin] += 1
            record = parse_record(topic_record)
            before = service.streams[origin]
            after = self.program.decide(before, record, stored_id=None, now=NOW).state
            service.streams[origin] = after
            if isinstance(record, EventRecord) and after.last != before.last and service.subscribes(by_id[record.id]):
                service.log.append(by_id[record.id])


OPERATIONS = ("command", "query", "relay", "receive", "consume", "deliver")
WEIGHTS = (1, 2, 5, 12)


def random_operations(random: Random) -> list[Operation]:
    """Return random operations; each run has its own frequencies and its own few digits for each operation."""
    weights = [random.choice(WEIGHTS) for _ in OPERATIONS]
    names = random.choices(OPERATIONS, weights, k=random.randrange(30, 150))
    firsts, seconds = ({name: _some_digits(random) for name in OPERATIONS} for _ in range(2))
    return [(name, random.choice(firsts[name]), random.choice(seconds[name])) for name in names]


def _some_digits(random: Random) -> list[int]:
    return random.choices(range(10), k=random.choice((2, 5, 15)))


def _log_id(service: str) -> str:
    return f"0198f3c2-0000-7000-8000-{SERVICES.index(service):012}"


def _envelope_of(event: Event) -> str:
    return (
        f'{{"id":"{event.id}","source":"/popug/{event.origin}","type":"popug.{event.origin}.toy.v1","subject":"s",'
        f'"time":"2026-03-02T09:00:00.000000Z","data":{{}},"sequence":"{event.position}","specversion":"1.0"}}'
    )

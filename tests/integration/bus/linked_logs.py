"""A publisher's log, its topic and one receiver, under repeats, reorder, loss and restores.

The publisher, its relays and the topic are modelled here, with what must hold of them. The records and the decision are
those of the program, or of a copy of it with a planted bug.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import NamedTuple

from popug_cli.bus import relay, streams
from popug_cli.bus.records import EventRecord, MangledRecord, TopicRecord, parse_record
from popug_cli.bus.relay import Claim, OwnEvent
from popug_cli.bus.streams import Decision, StreamState

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
EVERYTHING = 10**6
OTHER = "tasks"  # the service whose events the publisher consumes
LIMITS = (1, 1, 2, 2, 3, 5, EVERYTHING)

Operation = tuple[str, int, int]
RecordsOf = Callable[[Claim], list[TopicRecord]]
Decide = Callable[..., Decision]


class Row(NamedTuple):
    """A row of the publisher's log; an own one that follows from the ``cause``-th event of OTHER, or 0."""

    position: int
    id: str
    is_own: bool
    cause: int


class Publisher(NamedTuple):
    """The publisher's database; ``consumed`` of the ``received`` events of OTHER are consumed."""

    log_id: str
    rows: tuple[Row, ...] = ()
    received: int = 0
    consumed: int = 0

    @property
    def head(self) -> int:
        return self.rows[-1].position if self.rows else 0

    def own(self, up_to: int = EVERYTHING) -> list[Row]:
        return [row for row in self.rows if row.is_own and row.position <= up_to]


class Receiver(NamedTuple):
    """The receiver's database; ``stored`` has the ids of the events with a subscription, by position."""

    state: StreamState
    accepted: tuple[tuple[int, str], ...] = ()
    stored: frozenset[tuple[int, str]] = frozenset()


@dataclass
class LinkedLogs:
    """All of it; each operation takes two digits and does nothing if it is not possible now."""

    decide: Decide = streams.decide
    records_of: RecordsOf = relay.records_of
    lives: int = 1
    events: int = 0
    relayed: int = 0
    reached: int = 0
    offset: int = 0
    ignored: int = 0
    has_lost_tail: bool = False
    topic: list[TopicRecord] = field(default_factory=list)
    zombies: list[list[TopicRecord]] = field(default_factory=list)
    histories: list[list[tuple[int, str]]] = field(default_factory=list)
    saved: tuple[Publisher, Receiver] | None = None

    def __post_init__(self) -> None:
        self.publisher = Publisher(_log_id(1))
        self.receiver = Receiver(StreamState(log_id=_log_id(1)))

    def run(self, operations: Sequence[Operation]) -> None:
        """Do the operations; then send everything again, and check that the receiver has it."""
        for name, first, second in operations:
            getattr(self, name)(first, second)
        self._end()

    # --- the publisher --------------------------------------------------------------------------

    def publish(self, _first: int, _second: int) -> None:
        self._append(is_own=True)

    def receive(self, _first: int, _second: int) -> None:
        self._append(is_own=False)
        self.publisher = self.publisher._replace(received=self.publisher.received + 1)

    def consume(self, first: int, _second: int) -> None:
        """Consume one received event, and publish up to two of its own in the same transaction."""
        if self.publisher.consumed < self.publisher.received:
            consumed = self.publisher.consumed + 1
            self.publisher = self.publisher._replace(consumed=consumed)
            for _ in range(first % 3):
                self._append(is_own=True, cause=consumed)

    def lose_tail(self, first: int, second: int) -> None:
        """Lose the last commits in a failover, and go on; the relay's position may be one of the lost."""
        rows = self.publisher.rows[: -1 - first % 4]
        if self.publisher.rows:
            self._remember_history()
            self.has_lost_tail = True
            received = sum(not row.is_own for row in rows)
            consumed = max([row.cause for row in rows], default=0)
            self.publisher = Publisher(self.publisher.log_id, rows, received, consumed)
            if second % 3:
                self.relayed = min(self.relayed, self.publisher.head)
                self.reached = min(self.reached, self.publisher.head)

    def back_up(self, _first: int, _second: int) -> None:
        """Save both databases, unless the receiver has events that the publisher lacks."""
        if list(self.receiver.accepted) == self._own_ids()[: len(self.receiver.accepted)]:
            self.saved = self.publisher, self.receiver

    def restore(self, first: int, _second: int) -> None:
        """Restore both with a new log id; the topic may be a new one, and old relays may still be awake."""
        if self.saved:
            self._remember_history()
            self.lives += 1
            log_id = _log_id(self.lives)
            publisher, receiver = self.saved
            self.publisher = publisher._replace(log_id=log_id)
            self.receiver = receiver._replace(state=receiver.state.with_log_id(log_id))
            self.relayed, self.offset, self.ignored, self.has_lost_tail = receiver.state.last, 0, 0, False
            self.reached = 0
            if first % 2:
                self.topic = []

    # --- relays and the topic -------------------------------------------------------------------

    def relay(self, first: int, second: int) -> None:
        """Claim, and send all of it, or the beginning and then die, or wake up much later."""
        claim = self._claim(self.relayed, LIMITS[first % len(LIMITS)])
        records = self.records_of(claim)
        if second < 6:
            self.topic += records
            self.relayed = claim.end
            self.reached = max(self.reached, claim.end)
        elif second < 8:
            self.topic += records[: first % (len(records) + 1)]
        else:
            self.zombies.append(records)

    def wake(self, first: int, _second: int) -> None:
        if self.zombies:
            self.topic += self.zombies.pop(first % len(self.zombies))

    def republish(self, first: int, _second: int) -> None:
        self.relayed = min(self.relayed, self.publisher.head * first // 10)

    def repeat(self, first: int, second: int) -> None:
        """Send some records again, in reverse order."""
        start = len(self.topic) * first // 10
        self.topic += self.topic[start : start + second][::-1]

    def lose(self, first: int, _second: int) -> None:
        """Lose a record that the receiver has not read."""
        if self.offset < len(self.topic):
            self.topic.pop(self.offset + first % (len(self.topic) - self.offset))

    def mangle(self, first: int, _second: int) -> None:
        if self.offset < len(self.topic):
            index = self.offset + first % (len(self.topic) - self.offset)
            self.topic[index] = self.topic[index]._replace(headers=self.topic[index].headers[:2])

    # --- the receiver ---------------------------------------------------------------------------

    def read(self, first: int, second: int) -> None:
        for record in self.topic[self.offset : self.offset + 1 + first + second]:
            self.offset += 1
            self._take(record)
            self._check()

    def _read_all(self) -> None:
        while self.offset < len(self.topic):
            self.read(9, 9)

    def _take(self, topic_record: TopicRecord) -> None:
        record = parse_record(topic_record)
        before = self.receiver.state
        position = record.position if isinstance(record, EventRecord) else 0
        stored_id = dict(self.receiver.stored).get(position)
        state = self.decide(before, record, stored_id=stored_id, now=NOW).state
        self.receiver = self.receiver._replace(state=state)
        if isinstance(record, EventRecord) and state.last_id != before.last_id:
            accepted = (*self.receiver.accepted, (record.position, record.id))
            is_subscribed = int(record.id.removeprefix("e")) % 3 > 0
            stored = {(record.position, record.id)} if is_subscribed else set()
            self.receiver = self.receiver._replace(accepted=accepted, stored=self.receiver.stored | stored)
        is_ignored = isinstance(record, MangledRecord) or record.log_id != self.publisher.log_id
        self.ignored += is_ignored and before.history_change is None

    # --- what must hold -------------------------------------------------------------------------

    def _check(self) -> None:
        state, accepted = self.receiver.state, list(self.receiver.accepted)
        assert (state.last, state.last_id) == (accepted[-1] if accepted else (0, "")), "last is not the last one"
        histories = [self._own_ids(), *self.histories]
        assert any(accepted == history[: len(accepted)] for history in histories), "two histories are mixed"
        if self.has_lost_tail:
            return
        assert state.history_change is None, "false alarm"
        assert accepted == self._own_ids(state.last), "not a prefix of the publisher's log"
        assert accepted == self._own_ids(max(state.last, state.watermark)), "the watermark is too far"
        included = state.includes.get(OTHER, 0)
        effects = [row.position for row in self.publisher.own() if 0 < row.cause <= included]
        assert max(effects, default=0) <= min(state.last, state.includes_watermark), "an included effect is missing"
        assert state.includes_watermark <= state.watermark, "the watermark was lowered"

    def _end(self) -> None:
        """Send everything again, after the publisher has passed the position that the receiver has reached."""
        self._read_all()
        while self.publisher.head <= self.receiver.state.last:
            self.publish(0, 0)
        self.publish(0, 0)
        self.topic += self.records_of(self._claim(0, EVERYTHING))
        self._read_all()
        state = self.receiver.state
        assert state.mangled_count + state.other_log_count == self.ignored, "an ignored record is not counted"
        if state.history_change is None:
            assert list(self.receiver.accepted) == self._own_ids(), "incomplete, and not noticed"
            assert state.gap_since is None
            assert state.watermark >= self.publisher.head, "the watermark is not raised"
            assert self.has_lost_tail or state.includes == {OTHER: self.publisher.consumed}

    # --- parts ----------------------------------------------------------------------------------

    def _append(self, *, is_own: bool, cause: int = 0) -> None:
        self.events += 1
        row = Row(self.publisher.head + 1, f"e{self.events}", is_own, cause)
        self.publisher = self.publisher._replace(rows=(*self.publisher.rows, row))

    def _claim(self, after: int, limit: int) -> Claim:
        own = self.publisher.own()
        following = [row for row in own if row.position > after]
        before = [row for row in own if row.position <= after]
        sent = [row for row in own if row.position <= self.reached]
        return Claim(
            log_id=self.publisher.log_id,
            start=after,
            previous=before[-1].position if before else 0,
            previous_id=before[-1].id if before else "",
            events=[OwnEvent(row.position, row.id, _envelope_of(row)) for row in following[:limit]],
            is_drained=len(following) < limit,
            head=self.publisher.head,
            includes={OTHER: self.publisher.consumed},
            reached=self.reached,
            last_sent=(sent[-1].position, sent[-1].id) if sent else (0, ""),
        )

    def _own_ids(self, up_to: int = EVERYTHING) -> list[tuple[int, str]]:
        return [(row.position, row.id) for row in self.publisher.own(up_to)]

    def _remember_history(self) -> None:
        self.histories.append(self._own_ids())


WEIGHTS = {
    "publish": 20,
    "receive": 8,
    "consume": 10,
    "relay": 30,
    "read": 25,
    "wake": 5,
    "republish": 4,
    "repeat": 4,
    "lose": 3,
    "mangle": 2,
}
LOSSES = {"lose_tail": 3}
RESTORES = {"back_up": 3, "restore": 3}


def names_of(*weights: dict[str, int]) -> list[str]:
    """Return the names of operations, each as often as its weight says."""
    return [name for weight in weights for name, count in weight.items() for _ in range(count)]


PLAIN = names_of(WEIGHTS)
WITH_RESTORES = names_of(WEIGHTS, RESTORES)
WITH_LOSSES = names_of(WEIGHTS, LOSSES)
WITH_ALL = names_of(WEIGHTS, LOSSES, RESTORES)


def random_operations(names: Sequence[str], random: Random) -> list[Operation]:
    count = random.randrange(20, 120)
    return [(random.choice(names), random.randrange(10), random.randrange(10)) for _ in range(count)]


def _log_id(life: int) -> str:
    return f"0198f3c2-0000-7000-8000-{life:012}"


def _envelope_of(row: Row) -> str:
    return (
        f'{{"id":"{row.id}","source":"/popug/billing","type":"popug.billing.entry_posted.v1","subject":"s",'
        f'"time":"2026-03-02T09:00:00.000000Z","data":{{}},"sequence":"{row.position}","specversion":"1.0"}}'
    )

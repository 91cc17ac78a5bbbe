"""Consumers: who listens to which events, how a batch is taken, and how all are brought up to date."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from popug_cli.bus import set_aside
from popug_cli.bus.log import Row
from popug_cli.bus.retry import Unhealable
from popug_cli.bus.runtime import Context, Runtime
from popug_cli.kernel.clock import stamp
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.progress import Progress
from popug_cli.messages.base import Event
from popug_cli.messages.envelope import Delivered, decode, subject_of
from popug_cli.messages.principal import NOBODY
from popug_cli.messages.upcasters import versions
from popug_cli.storage.engine import change, insert_many, scalar, select
from popug_cli.storage.faults import place_fault

BATCH_EVENTS = 10_000
IDLE_EVENTS = 100
RETRIES_AT_ONCE = 100
TOLD_POSITIONS = 10_000
CATCHING_UP = "Catching up"
FOREVER = "9999"

Consume = Callable[[Sequence[Delivered[Event]], Context], None]
GiveUp = Callable[[Delivered[Event], str, Context], bool]


def never_gives_up(event: Delivered[Event], error: str, context: Context) -> bool:
    """A failure is always tried again or set aside."""
    return False


@dataclass(frozen=True, slots=True)
class Consumer:
    """A module's ear.

    ``consume`` takes events of the kinds it subscribes to, in the order of the log, any number at once, and works in
    the transaction it is given. ``give_up`` may answer for an event that failed once and for all, by publishing
    something else; then the event is done. ``at_once`` is how many events it is given at most: so few that they stay in
    the processor's cache, so many that there is something to add up.
    """

    name: str
    subscribes: tuple[type[Event], ...]
    consume: Consume
    give_up: GiveUp = never_gives_up
    at_once: int = 2_000
    types: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        types = tuple(shape.TYPE for kind in self.subscribes for shape in versions(kind))
        object.__setattr__(self, "types", types)


@dataclass(slots=True)
class CatchUp:
    """How catching up went: failures set aside in it, faults of the place, and whether it is complete."""

    failures: dict[str, int] = field(default_factory=dict)
    faults: list[PopugError] = field(default_factory=list)
    complete: bool = True


class Way:
    """How far the consumers have come since they began, in positions of the log; told where it is far."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._begun: int | None = None
        self._is_open = False

    def tell(self, reached: int, end: int) -> None:
        """Say where they stand and where they are to come, all of them added up."""
        if self._begun is None:
            self._begun = reached
        if end - self._begun >= TOLD_POSITIONS:
            self._is_open = reached < end
            self._progress(CATCHING_UP, reached - self._begun, end - self._begun)

    def end(self) -> None:
        """There is no more to tell."""
        if self._is_open:
            self._progress(CATCHING_UP, 1, 1)


def catch_up(runtime: Runtime, consumers: Sequence[Consumer], *, whenever: bool = False) -> CatchUp:
    """Let the consumers take all that is in the log and all retries that are due, within a bound of time.

    Due is what was due when it began; ``whenever`` tries what waits for a later retry once, too. Never raises for a
    consumer's failure or for a fault of the place: both are in the answer.
    """
    way = Way(runtime.progress)
    try:
        return _catch_up(runtime, consumers, way, whenever=whenever)
    finally:
        way.end()


def _catch_up(runtime: Runtime, consumers: Sequence[Consumer], way: Way, *, whenever: bool) -> CatchUp:
    report = CatchUp()
    deadline = time.monotonic() + runtime.settings.number("bus.catch_up_seconds")
    due_by = FOREVER if whenever else stamp(runtime.clock.now())
    stuck: set[str] = set()
    while busy := [c for c in _with_work(runtime, consumers, due_by, way) if c.name not in stuck]:
        for consumer in busy:
            try:
                failures = advance(runtime, consumer, consumers) + retry_due(runtime, consumer, due_by, deadline)
            except PopugError as fault:
                report.faults.append(fault)
                stuck.add(consumer.name)
                continue
            if failures:
                report.failures[consumer.name] = report.failures.get(consumer.name, 0) + failures
            if time.monotonic() > deadline:
                report.complete = False
                return report
        due_by = stamp(runtime.clock.now()) if due_by == FOREVER else due_by
    return report


def is_current(context: Context, consumer: Consumer) -> bool:
    """Whether a consumer has taken (or set aside) everything that is in the log up to the context's position."""
    return not context.log.has(consumer.types, after=_position(context, consumer.name), up_to=context.position)


def pass_by(context: Context, consumers: Sequence[Consumer]) -> None:
    """Move those that were current past the events of this transaction, if it has many and none for them.

    Whoever is moved need not look for their events among a hundred thousand of others'.
    """
    if context.events.last - context.position < IDLE_EVENTS:
        return
    for consumer in consumers:
        if not context.events.may_have(consumer.types) and is_current(context, consumer):
            _move(context, consumer.name, context.events.last)


def advance(runtime: Runtime, consumer: Consumer, everybody: Sequence[Consumer] = ()) -> int:
    """Let a consumer take its next batch in one transaction; the number of events that failed comes back.

    ``everybody`` passes by what it publishes.
    """
    with runtime.writing(NOBODY) as context:
        reached, failures, left = _position(context, consumer.name), 0, BATCH_EVENTS
        while left:
            most = min(left, consumer.at_once)
            rows = context.log.after(reached, consumer.types, most)
            reached, left = (rows[-1][0], left - most) if len(rows) == most else (context.position, 0)
            failures += _take(consumer, rows, context.at(reached))
        _move(context, consumer.name, reached)
        pass_by(context, everybody)
        return failures


def retry_due(runtime: Runtime, consumer: Consumer, due_by: str, deadline: float) -> int:
    """Try again what was due by an instant, while the (monotonic) clock has not passed the deadline.

    Each success lets what waits behind it go, in order. Failures come back as a number.
    """
    with runtime.reading(NOBODY) as context:
        subjects = set_aside.due_subjects(context, consumer.name, due_by)
    failures = 0
    for start in range(0, len(subjects), RETRIES_AT_ONCE):
        with runtime.writing(NOBODY) as context:
            for subject in subjects[start : start + RETRIES_AT_ONCE]:
                failures += drain(consumer, subject, context)
        if time.monotonic() > deadline:
            break
    return failures


def retry_within(consumers: Sequence[Consumer], context: Context) -> None:
    """Try once, in the transaction of the context, whatever waits for a retry, due or not."""
    for consumer in consumers:
        for subject in set_aside.due_subjects(context, consumer.name, FOREVER):
            drain(consumer, subject, context)


@contextmanager
def rehearsal(context: Context) -> Iterator[None]:
    """What is done within is taken back at its end; what fails within takes back the whole transaction."""
    mark, savepoint = context.events.mark(), context.connection.begin_nested()
    yield
    savepoint.rollback()
    context.events.restore(mark)


def drain(consumer: Consumer, subject: str, context: Context) -> int:
    """Do what is set aside of one subject in order, up to the first that fails; 1 comes back if one did."""
    for held in set_aside.held_of(context, consumer.name, subject):
        error = _attempt(consumer, held.sequence, context)
        if error is not None:
            set_aside.failed_again(context, held, error)
            return 1
        set_aside.forget(context, held)
    return 0


def mark_rebuilt(context: Context, consumer: Consumer) -> None:
    """Mark all events up to the context's position as done by a rebuild, but for those that are set aside."""
    places = ",".join("?" * len(consumer.types))
    context.connection.exec_driver_sql(
        "INSERT INTO bus_inbox (consumer, sequence) SELECT ?, sequence FROM bus_log"
        f" WHERE type IN ({places})"
        " AND sequence NOT IN (SELECT sequence FROM bus_set_aside WHERE consumer = ?)"
        " ON CONFLICT (consumer, sequence) DO NOTHING",
        (consumer.name, *consumer.types, consumer.name),
    )
    _move(context, consumer.name, context.position)


def _take(consumer: Consumer, rows: Sequence[Row], context: Context) -> int:
    seen = _seen(context, consumer.name, rows)
    blocked = set_aside.blocked_subjects(context, consumer.name)
    fresh = [row for row in rows if row[0] not in seen] if seen else rows
    free = [row for row in fresh if _subject(row) not in blocked] if blocked else fresh
    if len(free) < len(fresh):
        behind = [(row[0], _subject(row)) for row in fresh if _subject(row) in blocked]
        set_aside.queue_behind(context, consumer.name, behind)
    if free and not _take_together(consumer, free, context):
        return _take_singly(consumer, free, blocked, context)
    return 0


def _take_together(consumer: Consumer, rows: Sequence[Row], context: Context) -> bool:
    try:
        with _savepoint(context):
            consumer.consume([decode(*row) for row in rows], context)
            _mark_done(context, consumer.name, [sequence for sequence, *_ in rows])
    except Exception as error:
        if place_fault(error, context.home.database):
            raise
        return False
    return True


def _take_singly(consumer: Consumer, rows: Sequence[Row], blocked: set[str], context: Context) -> int:
    failures = 0
    for row in rows:
        sequence, subject = row[0], _subject(row)
        if subject in blocked:
            set_aside.queue_behind(context, consumer.name, [(sequence, subject)])
            continue
        error = _attempt(consumer, sequence, context.at(sequence))
        if error is not None:
            set_aside.set_aside(context, consumer.name, sequence, subject, error)
            blocked.add(subject)
            failures += 1
    return failures


def _attempt(consumer: Consumer, sequence: int, context: Context) -> Exception | None:
    """Let the consumer take one event; what it failed with comes back, unless it gave the event up."""
    event: Delivered[Event] | None = None
    try:
        with _savepoint(context):
            event = decode(*context.log.at(sequence))
            consumer.consume([event], context)
            _mark_done(context, consumer.name, [sequence])
    except Exception as error:
        if place_fault(error, context.home.database):
            raise
        return error if event is None else _after_failure(consumer, event, error, context)
    return None


def _after_failure(consumer: Consumer, event: Delivered[Event], error: Exception, context: Context) -> Exception | None:
    """What is left of a failure once the consumer was asked to give the event up; nothing if it did."""
    try:
        with _savepoint(context):
            if not consumer.give_up(event, set_aside.describe(error), context):
                return error
            _mark_done(context, consumer.name, [event.sequence])
    except Exception as failure:
        if place_fault(failure, context.home.database):
            raise
        return Unhealable(f"it could not even be given up: {set_aside.describe(failure)}")
    return None


@contextmanager
def _savepoint(context: Context) -> Iterator[None]:
    mark = context.events.mark()
    try:
        with context.connection.begin_nested():
            yield
            context.events.flush()
    except BaseException:
        context.events.restore(mark)
        raise


def _subject(row: Row) -> str:
    sequence, _, envelope = row
    return subject_of(sequence, envelope)


def _position(context: Context, consumer: str) -> int:
    return scalar(context.connection, "SELECT position FROM bus_cursors WHERE consumer = :c", c=consumer) or 0


def _move(context: Context, consumer: str, position: int) -> None:
    statement = (
        "INSERT INTO bus_cursors (consumer, position) VALUES (:c, :p)"
        " ON CONFLICT (consumer) DO UPDATE SET position = excluded.position"
    )
    change(context.connection, statement, c=consumer, p=position)


def _seen(context: Context, consumer: str, rows: Sequence[Row]) -> set[int]:
    if not rows:
        return set()
    statement = (
        "SELECT sequence FROM bus_inbox WHERE consumer = :c AND sequence BETWEEN :first AND :last"
        " UNION ALL SELECT sequence FROM bus_set_aside"
        " WHERE consumer = :c AND sequence BETWEEN :first AND :last AND state = 'dropped'"
    )
    found = select(context.connection, statement, c=consumer, first=rows[0][0], last=rows[-1][0])
    return {sequence for (sequence,) in found}


def _mark_done(context: Context, consumer: str, sequences: Sequence[int]) -> None:
    insert_many(
        context.connection,
        "INSERT INTO bus_inbox (consumer, sequence) VALUES (?, ?)",
        [(consumer, sequence) for sequence in sequences],
    )


def _with_work(runtime: Runtime, consumers: Sequence[Consumer], due_by: str, way: Way) -> list[Consumer]:
    """The consumers that have events or due retries to take, or that are far behind with nothing to take."""
    with runtime.reading(NOBODY) as context:
        positions: dict[str, int] = dict(select(context.connection, "SELECT consumer, position FROM bus_cursors"))
        reached = [positions.get(c.name, 0) for c in consumers]
        way.tell(sum(reached), len(reached) * context.position)
        due = set_aside.consumers_due(context, due_by)
        start = min(reached, default=0)
        window = context.log.types_after(start, IDLE_EVENTS)
        full = len(window) == IDLE_EVENTS
        return [c for c in consumers if c.name in due or _pending(c, positions.get(c.name, 0), window, context, full)]


def _pending(
    consumer: Consumer, position: int, window: Sequence[tuple[int, str]], context: Context, full: bool
) -> bool:
    if full:
        return context.position - position >= IDLE_EVENTS or bool(context.log.after(position, consumer.types, 1))
    return any(sequence > position and type_ in consumer.types for sequence, type_ in window)

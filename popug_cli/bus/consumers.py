"""Consumers: subscriptions, batch processing and retries.

Functions that open a transaction raise the errors of ``storage.errors``; a failing consumer raises nothing.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from string import digits
from typing import NamedTuple

from popug_cli.bus import inbox, parked_events
from popug_cli.bus.context import Context, Runtime
from popug_cli.bus.cursors import (
    UnknownVersion,
    advance,
    is_unknown_version,
    skip_unrelated,
    up_to_unknown_version,
)
from popug_cli.bus.log import StoredEvent
from popug_cli.bus.retry import PermanentFailure
from popug_cli.kernel.errors import PopugError
from popug_cli.messages.base import Event
from popug_cli.messages.envelope import Delivered, decode, subject_of
from popug_cli.messages.principal import ANONYMOUS
from popug_cli.messages.upcasters import versions
from popug_cli.storage.errors import TransactionLost, environment_error

BATCH_EVENTS = 10_000
SUBJECTS_PER_TRANSACTION = 100
END_OF_TIME = "9999"  # later in text order than the RFC 3339 texts of earlier years

Consume = Callable[[Sequence[Delivered[Event]], Context], None]
GiveUp = Callable[[Delivered[Event], str, Context], bool]
ProcessRows = Callable[["Consumer", Sequence[StoredEvent], set[str], Context], int]
"""Processes rows of the log whose subjects are not blocked; adds the subjects of failures to the blocked ones."""


class Turn(NamedTuple):
    """The result of one transaction of a consumer.

    ``is_complete`` says that it left no event up to the end of the log, and ``types`` are those that it published.
    """

    failures: int
    is_complete: bool
    types: frozenset[str]


class EventFailedError(Exception):
    """A consumer failed on one of the events of a batch; its cause is the consumer's error."""


def default_give_up(event: Delivered[Event], error: str, context: Context) -> bool:
    """Return False: the failed event is retried or becomes a dead letter."""
    return False


@dataclass(frozen=True, slots=True)
class Consumer:
    """A module's subscription: which events it consumes, and how.

    ``consume`` receives one or more events of the subscribed kinds, in log order, inside a transaction. ``give_up``
    receives an event that ``consume`` failed on and the error as text; it may publish another event instead and return
    True, and the event is then done. ``max_batch`` limits the events of one call: small enough for the CPU cache, large
    enough for set-based SQL to pay off. A consumer subscribes to names of events, whatever the version: ``types`` has
    the type names in all versions that this program knows, ``prefixes`` those without the number of the version.
    """

    name: str
    subscribes: tuple[type[Event], ...]
    consume: Consume
    give_up: GiveUp = default_give_up
    max_batch: int = 2_000
    types: tuple[str, ...] = field(init=False)
    prefixes: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        types = tuple(version.TYPE for kind in self.subscribes for version in versions(kind))
        object.__setattr__(self, "types", types)
        object.__setattr__(self, "prefixes", tuple(kind.TYPE.rstrip(digits) for kind in self.subscribes))

    def subscribes_to(self, type_: str) -> bool:
        """Return whether it consumes events of a type, in a version that this program knows or in another one."""
        return type_ in self.types or is_unknown_version(self, type_)


def may_be_repeated(error: PopugError) -> bool:
    """Return whether a consumer may run again after an error of the database server: it first looks up what is done."""
    return isinstance(error, TransactionLost) or error.code == "in_doubt"


def process_next_batch(runtime: Runtime, consumer: Consumer, all_consumers: Sequence[Consumer] = ()) -> Turn:
    """Process the consumer's next batch in one transaction.

    The batch ends before an event of an unknown version; raise ``UnknownVersion`` if nothing comes before it.

    The first attempt uses no savepoint: SQLite copies every page that a savepoint may have to restore. If an event
    fails, that transaction is rolled back, and another one isolates the event with savepoints. The cursors of
    ``all_consumers`` are advanced as in ``skip_unrelated``.
    """
    try:
        return _process_next_batch(runtime, consumer, all_consumers, isolates=False)
    except EventFailedError:
        return _process_next_batch(runtime, consumer, all_consumers, isolates=True)


def _process_next_batch(
    runtime: Runtime, consumer: Consumer, all_consumers: Sequence[Consumer], *, isolates: bool
) -> Turn:
    with runtime.writing(ANONYMOUS) as context:
        cursor, is_all_new = inbox.start(context, consumer.name)
        process = _process_with_savepoints if isolates else _process_all
        is_all_new = is_all_new and not isolates  # an isolated failure blocks its subject
        reached, failures, left = cursor, 0, BATCH_EVENTS
        while left:
            limit = min(left, consumer.max_batch)
            rows = context.log.after(reached, consumer.types, limit, prefixes=consumer.prefixes)
            reached, left = (rows[-1][0], left - limit) if len(rows) == limit else (context.position, 0)
            known, unknown = up_to_unknown_version(consumer, rows)
            if unknown is not None:
                reached, left = unknown[0] - 1, 0
                if reached == cursor:
                    raise UnknownVersion(consumer.name, *unknown[:2])
            failures += _process(consumer, known, context.at_position(reached), process, is_all_new=is_all_new)
        advance(context, consumer.name, cursor, reached)
        skip_unrelated(context, all_consumers)
        return Turn(failures, reached == context.position, context.events.types)


def try_next_batch(runtime: Runtime, consumer: Consumer) -> int:
    """Process the consumer's next batch and return how many events failed.

    Return 0 as well if the transaction was lost or its commit is in doubt; the caller then looks again what is left.
    """
    try:
        return process_next_batch(runtime, consumer).failures
    except PopugError as error:
        if not may_be_repeated(error):
            raise
        return 0


def retry_due(runtime: Runtime, consumer: Consumer, due_by: str, deadline: float) -> int:
    """Retry the events that were due by ``due_by``, an RFC 3339 text; return the number of failures.

    Each success is followed by the events that wait behind it, in order. One transaction retries
    ``SUBJECTS_PER_TRANSACTION`` subjects; after ``deadline``, a monotonic time, no further one begins.
    At the end, raise ``UnknownVersion`` if a parked event has a version that this program does not know.
    """
    with runtime.reading(ANONYMOUS) as context:
        subjects = parked_events.due_subjects(context, consumer.name, due_by)
    failures, unknown = 0, None
    for start in range(0, len(subjects), SUBJECTS_PER_TRANSACTION):
        with runtime.writing(ANONYMOUS) as context:
            for subject in subjects[start : start + SUBJECTS_PER_TRANSACTION]:
                try:
                    failures += drain(consumer, subject, context)
                except UnknownVersion as error:
                    unknown = error
        if time.monotonic() > deadline:
            break
    if unknown is not None:
        raise unknown
    return failures


def retry_in_transaction(consumers: Sequence[Consumer], context: Context) -> None:
    """Retry each event that waits for a retry, due or not, and the events behind it, in the context's transaction."""
    for consumer in consumers:
        for subject in parked_events.due_subjects(context, consumer.name, END_OF_TIME):
            drain(consumer, subject, context)


@contextmanager
def rolled_back(context: Context) -> Iterator[None]:
    """Roll back the block's changes at its end. If it raises, the caller must let the whole transaction roll back."""
    events_savepoint = context.events.savepoint()
    with context.connection.savepoint(keep=False):
        yield
    context.events.restore(events_savepoint)


def drain(consumer: Consumer, subject: str, context: Context) -> int:
    """Process the parked events of a subject in order, until one fails; return the number of failures, 0 or 1."""
    for item in parked_events.parked_items_of(context, consumer.name, subject):
        error = _process_one(consumer, item.sequence, context)
        if error is not None:
            parked_events.record_failure(context, item, error)
            return 1
        parked_events.unpark(context, item)
        inbox.mark_done(context, consumer.name, item.sequence, item.sequence)
    return 0


def _process(
    consumer: Consumer, rows: Sequence[StoredEvent], context: Context, process: ProcessRows, *, is_all_new: bool
) -> int:
    """Process new events, and park those behind a parked one. Return how many failed."""
    if is_all_new:
        return process(consumer, rows, set(), context) if rows else 0
    processed = inbox.processed_sequences(context, consumer.name, rows)
    blocked = parked_events.blocked_subjects(context, consumer.name)
    unprocessed = [row for row in rows if row[0] not in processed] if processed else rows
    unblocked = [row for row in unprocessed if _subject_of_row(row) not in blocked] if blocked else unprocessed
    if len(unblocked) < len(unprocessed):
        behind = [(row[0], _subject_of_row(row)) for row in unprocessed if _subject_of_row(row) in blocked]
        parked_events.park_behind(context, consumer.name, behind)
    return process(consumer, unblocked, blocked, context) if unblocked else 0


def _process_all(consumer: Consumer, rows: Sequence[StoredEvent], blocked: set[str], context: Context) -> int:
    """Process events in one call. Raise ``EventFailedError`` if it fails, and environment errors."""
    try:
        consumer.consume([decode(*row) for row in rows], context)
        context.events.flush()
    except Exception as error:
        if environment_error(error, context.home.database):
            raise
        raise EventFailedError from error
    return 0


def _process_with_savepoints(
    consumer: Consumer, rows: Sequence[StoredEvent], blocked: set[str], context: Context
) -> int:
    """Process events in one call, or one by one if that fails. Return how many failed; raise environment errors."""
    if len(rows) > 1:
        with suppress(EventFailedError), _savepoint(context):
            return _process_all(consumer, rows, blocked, context)
    return _process_one_by_one(consumer, rows, blocked, context)


def _process_one_by_one(consumer: Consumer, rows: Sequence[StoredEvent], blocked: set[str], context: Context) -> int:
    failures = 0
    for row in rows:
        sequence, subject = row[0], _subject_of_row(row)
        if subject in blocked:
            parked_events.park_behind(context, consumer.name, [(sequence, subject)])
            continue
        error = _process_one(consumer, sequence, context.at_position(sequence))
        if error is not None:
            parked_events.park(context, consumer.name, sequence, subject, error)
            blocked.add(subject)
            failures += 1
    return failures


def _process_one(consumer: Consumer, sequence: int, context: Context) -> Exception | None:
    """Process one event. Return the error, or None if it succeeded or the consumer gave up the event.

    Raise environment errors, and ``UnknownVersion``.
    """
    event: Delivered[Event] | None = None
    try:
        with _savepoint(context):
            row = context.log.row_at(sequence)
            if is_unknown_version(consumer, row[1]):
                raise UnknownVersion(consumer.name, *row[:2])
            event = decode(*row)
            consumer.consume([event], context)
    except Exception as error:
        if isinstance(error, UnknownVersion) or environment_error(error, context.home.database):
            raise
        return error if event is None else _try_to_give_up(consumer, event, error, context)
    return None


def _try_to_give_up(
    consumer: Consumer, event: Delivered[Event], error: Exception, context: Context
) -> Exception | None:
    """Ask the consumer to give up the failed event. Return None if it did, else the error.

    If ``give_up`` fails as well, return a ``PermanentFailure``, so that the event becomes a dead letter.
    """
    try:
        with _savepoint(context):
            if not consumer.give_up(event, parked_events.describe(error), context):
                return error
    except Exception as failure:
        if environment_error(failure, context.home.database):
            raise
        return PermanentFailure(f"giving the event up failed too: {parked_events.describe(failure)}")
    return None


@contextmanager
def _savepoint(context: Context) -> Iterator[None]:
    events_savepoint = context.events.savepoint()
    try:
        with context.connection.savepoint():
            yield
            context.events.flush()
    except BaseException:
        context.events.restore(events_savepoint)
        raise


def _subject_of_row(row: StoredEvent) -> str:
    sequence, _, envelope = row
    return subject_of(sequence, envelope)

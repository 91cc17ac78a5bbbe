"""Read the log once for all checks that need every event.

Such a check is a generator: it receives the batches of the log one after the other, then None, and returns its result.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice, zip_longest
from typing import Any, NamedTuple, TypeVar

import msgspec

from popug_cli.audit.reading import CheckedEvent
from popug_cli.audit.result import MAX_SHOWN_VIOLATIONS
from popug_cli.bus.context import Context
from popug_cli.bus.log import ENVELOPE
from popug_cli.messages.base import EVENTS, Event
from popug_cli.messages.billing import DayClosed, EntryPosted, TaskPriced
from popug_cli.messages.company import Check
from popug_cli.messages.identity import UserRegistered
from popug_cli.messages.tasks import TaskAssigned, TaskCompleted, TaskCreated, TaskCreatedV1

E = TypeVar("E", bound=Event)

BATCH_ROWS = 64  # few enough for the cache of the CPU: 500 cost a quarter more time, 2,000 two fifths
PROGRESS_EVENTS = 10_000
UNREADABLE_ENVELOPE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
DECODED_EVENTS: tuple[type[Event], ...] = (
    *(UserRegistered, TaskCreatedV1, TaskCreated, TaskAssigned, TaskCompleted),
    *(TaskPriced, EntryPosted, DayClosed),
)
LogRow = tuple[int, bytes | None, bytes]  # position, stored type and envelope


class LogBatch(NamedTuple):
    """Successive rows of the log, and the events of ``DECODED_EVENTS`` among them, by position.

    ``other_rows`` are those of other types, and those whose envelope does not fit its schema or names another type.
    """

    rows: list[LogRow]
    events: dict[type[Event], list[tuple[int, CheckedEvent[Any] | None]]]
    other_rows: list[LogRow]

    def of(self, kind: type[E]) -> list[tuple[int, CheckedEvent[E] | None]]:
        """Return the events of a kind in this version, in log order; None for one that does not fit its schema."""
        return self.events[kind]


LogCheck = Generator[None, LogBatch | None, Check]
StartCheck = Callable[[Context], LogCheck]


def run_log_checks(
    checks: Mapping[str, StartCheck],
    context: Context,
    errors: tuple[type[Exception], ...],
    result_of_error: Callable[[str, Exception], Check],
) -> dict[str, Check]:
    """Read the log for all checks and return their results by name.

    A check that raises one of ``errors`` gets ``result_of_error``, and so do all unfinished checks if reading raises.
    """
    results: dict[str, Check] = {}
    with ExitStack() as stack:
        running = {name: check(context) for name, check in checks.items()}
        for generator in running.values():
            stack.callback(generator.close)

        def send(batch: LogBatch | None) -> None:
            for name, generator in [*running.items()]:
                try:
                    generator.send(batch)
                    continue
                except StopIteration as end:
                    results[name] = end.value
                except errors as error:
                    results[name] = result_of_error(name, error)
                del running[name]

        send(None)  # starts the generators
        try:
            for batch in _batches(context):
                send(batch)
        except errors as error:
            return results | {name: result_of_error(name, error) for name in running}
        send(None)
        return results


def differing_rows(
    stored: Iterator[Any], published: Sequence[Any], describe: Callable[[Any, Any], str]
) -> Iterator[str]:
    """Take as many stored rows as there are published ones; describe each pair that differs, at its place.

    A row that is missing is None.
    """
    rows = [*islice(stored, len(published))]
    if rows != published:
        for row, published_row in zip_longest(rows, published):
            if row != published_row:
                yield describe(row, published_row)


def has_enough(violations: Sequence[str]) -> bool:
    """Return whether there are more violations than a result shows."""
    return len(violations) > MAX_SHOWN_VIOLATIONS


def _batches(context: Context) -> Iterator[LogBatch]:
    statement = f"SELECT sequence, CAST(type AS BLOB), {ENVELOPE} FROM bus_log ORDER BY sequence"
    rows = context.connection.stream(statement)
    next_report = PROGRESS_EVENTS
    while batch := [*islice(rows, BATCH_ROWS)]:
        yield _decode(batch)
        if (position := batch[-1][0]) >= next_report:
            context.progress("Verifying the log", position, context.position)
            next_report = position + PROGRESS_EVENTS


def _decode(rows: list[LogRow]) -> LogBatch:
    batch = LogBatch(rows, {kind: [] for kind in DECODED_EVENTS}, [])
    for row in rows:
        sequence, type_, envelope = row
        if (decoder := _DECODERS.get(type_)) is None:
            batch.other_rows.append(row)
            continue
        kind, type_name, decode = decoder
        try:
            event = decode(envelope)
        except UNREADABLE_ENVELOPE_ERRORS:
            event = None
        batch.events[kind].append((sequence, event))
        if event is None or event.type != type_name:
            batch.other_rows.append(row)
    return batch


_DECODERS: dict[bytes | None, tuple[type[Event], str, Callable[[bytes], CheckedEvent[Any]]]] = {
    kind.TYPE.encode(): (kind, kind.TYPE, msgspec.json.Decoder(CheckedEvent[kind]).decode)  # type: ignore[valid-type]
    for kind in DECODED_EVENTS
}
assert all(EVENTS[kind.TYPE] is kind for kind in DECODED_EVENTS)

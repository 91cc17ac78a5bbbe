"""Let the consumers catch up with the log, with a result and a progress report."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Self

from popug_cli.bus import parked_events
from popug_cli.bus.consumers import (
    END_OF_TIME,
    Consumer,
    may_be_repeated,
    process_next_batch,
    retry_due,
)
from popug_cli.bus.context import Context, Runtime
from popug_cli.bus.cursors import MIN_SKIPPED_EVENTS, cursor_positions
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.progress import Progress
from popug_cli.messages.principal import ANONYMOUS

MIN_REPORTED_POSITIONS = 10_000
CATCHING_UP = "Catching up"
RERUN_SECONDS = 30.0  # after a database server has ended a transaction


@dataclass(slots=True)
class CatchUpResult:
    """The result of a catch-up, or the sum of several.

    ``failures`` counts failed attempts by consumer. ``errors`` are those of the environment (full disk, locked
    database …) that stopped a consumer. ``complete`` is False if the time ran out.
    """

    failures: dict[str, int] = field(default_factory=dict)
    errors: list[PopugError] = field(default_factory=list)
    complete: bool = True

    def add(self, later: "CatchUpResult") -> None:
        """Add the result of a later catch-up; its ``complete`` holds for the sum."""
        for consumer, failures in later.failures.items():
            self.failures[consumer] = self.failures.get(consumer, 0) + failures
        self.errors += later.errors
        self.complete = later.complete


class CatchUpProgress:
    """The progress of the catch-ups in a block, in log positions; reported for at least ``MIN_REPORTED_POSITIONS``."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._start: int | None = None
        self._is_open = False

    def report(self, reached: int, end: int) -> None:
        """Report how far the consumers have advanced since the first call.

        ``reached`` is the sum of all cursors, ``end`` the sum of the positions that they have to reach.
        """
        if self._start is None:
            self._start = reached
        if end - self._start >= MIN_REPORTED_POSITIONS:
            self._is_open = reached < end
            self._progress(CATCHING_UP, reached - self._start, end - self._start)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Report 1 of 1, so that the interface ends its display, if the last report was of unfinished work."""
        if self._is_open:
            self._progress(CATCHING_UP, 1, 1)


def catch_up(
    runtime: Runtime,
    consumers: Sequence[Consumer],
    *,
    include_not_due: bool = False,
    progress: CatchUpProgress | None = None,
) -> CatchUpResult:
    """Run the consumers on new events and due retries; stop after the batch in which ``bus.catch_up_seconds`` elapse.

    Retries that were due at the start are attempted; with ``include_not_due``, later ones are attempted once as well.
    Return consumer failures in the result, and also the ``PopugError`` that stopped a consumer. Raise a ``PopugError``
    that occurs while the consumers with new events are looked up.
    """
    with nullcontext(progress) if progress else CatchUpProgress(runtime.progress) as catch_up_progress:
        return _catch_up(runtime, consumers, catch_up_progress, include_not_due=include_not_due)


def _catch_up(
    runtime: Runtime, consumers: Sequence[Consumer], progress: CatchUpProgress, *, include_not_due: bool
) -> CatchUpResult:
    result = CatchUpResult()
    started_at = time.monotonic()
    deadline, give_up_at = started_at + runtime.settings.number("bus.catch_up_seconds"), started_at + RERUN_SECONDS
    due_by = END_OF_TIME if include_not_due else to_rfc3339(runtime.clock.now())
    stopped: set[str] = set()
    is_finished = False
    while not is_finished:
        is_finished = True  # unless a turn leaves work that only another look at the database finds
        working, due = _consumers_with_work(runtime, consumers, due_by, progress)
        pending = [consumer for consumer in working if consumer.name not in stopped]
        for index, consumer in enumerate(pending):  # which grows: a turn publishes events for others
            try:
                turn = process_next_batch(runtime, consumer, consumers)
                failures = turn.failures
                if consumer.name in due or due_by == END_OF_TIME:
                    failures += retry_due(runtime, consumer, due_by, deadline)
                    is_finished = False
            except PopugError as error:
                is_finished = False
                if may_be_repeated(error) and time.monotonic() < give_up_at:
                    continue
                result.errors.append(error)
                stopped.add(consumer.name)
                continue
            is_finished = is_finished and turn.is_complete
            pending += [
                c
                for c in consumers
                if not turn.types.isdisjoint(c.types) and c.name not in stopped and c not in pending[index + 1 :]
            ]
            if failures:
                result.failures[consumer.name] = result.failures.get(consumer.name, 0) + failures
            if time.monotonic() > deadline:
                result.complete = False
                return result
        due_by = to_rfc3339(runtime.clock.now()) if due_by == END_OF_TIME else due_by
    return result


def _consumers_with_work(
    runtime: Runtime, consumers: Sequence[Consumer], due_by: str, progress: CatchUpProgress
) -> tuple[list[Consumer], set[str]]:
    """Return the consumers that have events or due retries, or whose cursor is far behind.

    Also return the names of those that have due retries.
    """
    with runtime.reading(ANONYMOUS) as context:
        positions = cursor_positions(context)
        reached = [positions.get(c.name, 0) for c in consumers]
        progress.report(sum(reached), len(reached) * context.position)
        due = parked_events.consumers_due(context, due_by)
        start = min(reached, default=0)
        window = context.log.types_after(start, MIN_SKIPPED_EVENTS)
        is_full = len(window) == MIN_SKIPPED_EVENTS
        working = [
            c for c in consumers if c.name in due or _has_work(c, positions.get(c.name, 0), window, context, is_full)
        ]
        return working, due


def _has_work(
    consumer: Consumer, position: int, window: Sequence[tuple[int, str]], context: Context, is_full: bool
) -> bool:
    """Return whether a consumer at ``position`` has an event to process, or its cursor is far behind.

    ``window`` has the position and type of the next events after the slowest cursor: all, unless ``is_full``.
    """
    if is_full:
        return context.position - position >= MIN_SKIPPED_EVENTS or bool(
            context.log.after(position, consumer.types, 1, prefixes=consumer.prefixes)
        )
    return any(sequence > position and consumer.subscribes_to(type_) for sequence, type_ in window)

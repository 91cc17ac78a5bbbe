"""The inbox: which of its events each consumer has done, as ranges of log positions.

A range covers every position between its first and its last one; the consumer's events among them are done. Events of
other types may lie between them. Ranges of one consumer neither overlap nor touch. A parked event is in no range until
it is done, and a dropped one is never in a range.
"""

from collections.abc import Sequence
from enum import StrEnum

from popug_cli.bus.context import Context
from popug_cli.bus.log import StoredEvent
from popug_cli.bus.publisher import MAX_POSITION

SELECT_RANGE_BEFORE = (
    "SELECT first_sequence, last_sequence FROM bus_inbox WHERE consumer = :consumer AND first_sequence <= :sequence"
    " ORDER BY first_sequence DESC LIMIT 1"
)
EXTEND_LAST_RANGE = (
    "UPDATE bus_inbox SET last_sequence = :last WHERE consumer = :consumer AND last_sequence = :before"
    " AND first_sequence = (SELECT max(first_sequence) FROM bus_inbox WHERE consumer = :consumer)"
    " AND NOT EXISTS"
    " (SELECT 1 FROM bus_set_aside WHERE consumer = :consumer AND sequence BETWEEN :first AND :last)"
)
SELECT_START = (
    "SELECT (SELECT position FROM bus_cursors WHERE consumer = :consumer), (SELECT last_sequence FROM bus_inbox"
    " WHERE consumer = :consumer ORDER BY first_sequence DESC LIMIT 1),"
    " EXISTS (SELECT 1 FROM bus_set_aside WHERE consumer = :consumer)"
)


def start(context: Context, consumer: str) -> tuple[int, bool]:
    """Return the position of the consumer's cursor, and whether all later events are new to it.

    They are not if it has done or dropped one of them, or if an earlier one is parked, so that others wait behind it.
    """
    row = context.connection.select_one(SELECT_START, consumer=consumer)
    assert row is not None, "a query without FROM has one row"
    cursor, last_done, is_any_set_aside = row
    return cursor or 0, (last_done or 0) <= (cursor or 0) and not is_any_set_aside


class Consumption(StrEnum):
    """Whether a consumer has done an event, has parked or dropped it, or still has to process or receive it."""

    DONE = "done"
    SET_ASIDE = "set_aside"
    PENDING = "pending"


def consumption_of(context: Context, consumer: str, event_id: str) -> Consumption:
    """Return what a consumer has done with an event, given by its id; this transaction may have published the event."""
    context.events.flush()
    event = context.log.by_id(event_id)
    if event is None:
        return Consumption.PENDING
    place = {"consumer": consumer, "sequence": event.sequence}
    covering = context.connection.select_one(SELECT_RANGE_BEFORE, **place)
    if covering and covering[1] >= event.sequence:
        return Consumption.DONE
    select_set_aside = "SELECT 1 FROM bus_set_aside WHERE consumer = :consumer AND sequence = :sequence"
    return Consumption.SET_ASIDE if context.connection.scalar(select_set_aside, **place) else Consumption.PENDING


def mark_done(context: Context, consumer: str, first: int, last: int) -> None:
    """Record that the consumer has done its events from ``first`` to ``last``, except parked and dropped ones.

    Do nothing if ``last`` is before ``first``. Call this in the transaction that stores the effects of the events.
    """
    if last < first:
        return
    connection = context.connection
    if connection.execute(EXTEND_LAST_RANGE, consumer=consumer, first=first, last=last, before=first - 1):
        return
    before = connection.select_one(SELECT_RANGE_BEFORE, consumer=consumer, sequence=first)
    if before and before[1] >= first - 1:
        first, last = before[0], max(last, before[1])
    bounds = {"consumer": consumer, "first": first, "last": min(last + 1, MAX_POSITION)}
    touching_ranges = "FROM bus_inbox WHERE consumer = :consumer AND first_sequence BETWEEN :first AND :last"
    last = max([last, *connection.column(f"DELETE {touching_ranges} RETURNING last_sequence", **bounds)])
    statement = (
        "SELECT sequence FROM bus_set_aside WHERE consumer = :consumer AND sequence BETWEEN :first AND :last"
        " ORDER BY sequence"
    )
    parked = connection.column(statement, consumer=consumer, first=first, last=last)
    starts, ends = [first, *(sequence + 1 for sequence in parked)], [*(sequence - 1 for sequence in parked), last]
    connection.insert_many(
        "INSERT INTO bus_inbox (consumer, first_sequence, last_sequence) VALUES (?, ?, ?)",
        [(consumer, start, end) for start, end in zip(starts, ends, strict=True) if start <= end],
    )


def processed_sequences(context: Context, consumer: str, rows: Sequence[StoredEvent]) -> set[int]:
    """Return the positions of those of the rows, in log order, whose event the consumer has done or dropped."""
    if not rows:
        return set()
    span = {"consumer": consumer, "first": rows[0][0], "last": rows[-1][0]}
    ranges = context.connection.select(
        "SELECT first_sequence, last_sequence FROM bus_inbox WHERE consumer = :consumer AND first_sequence <= :last"
        " AND first_sequence >= coalesce((SELECT max(first_sequence) FROM bus_inbox"
        " WHERE consumer = :consumer AND first_sequence <= :first), :first)"
        " AND last_sequence >= :first ORDER BY first_sequence",
        **span,
    )
    dropped = context.connection.column(
        "SELECT sequence FROM bus_set_aside WHERE consumer = :consumer AND sequence BETWEEN :first AND :last"
        " AND state = 'dropped'",
        **span,
    )
    return (_within(ranges, [row[0] for row in rows]) if ranges else set()) | set(dropped)


def _within(ranges: Sequence[tuple[int, int]], positions: Sequence[int]) -> set[int]:
    """Return the positions that a range covers; both are in ascending order."""
    covered, index = set[int](), 0
    for position in positions:
        while index < len(ranges) and ranges[index][1] < position:
            index += 1
        if index < len(ranges) and ranges[index][0] <= position:
            covered.add(position)
    return covered

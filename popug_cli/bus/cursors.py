"""Cursors: how far each consumer is in the log, whether it is up to date, and where it stops.

A consumer stops at an event of a version that this program does not know, and goes on when the program is newer.
"""

import re
from collections.abc import Iterator, Sequence
from string import digits
from typing import TYPE_CHECKING

from popug_cli.bus import inbox
from popug_cli.bus.context import Context
from popug_cli.bus.log import StoredEvent, decode_text
from popug_cli.bus.parked_events import BLOCKING_STATES
from popug_cli.kernel.errors import Unavailable

if TYPE_CHECKING:
    from popug_cli.bus.consumers import Consumer

MIN_SKIPPED_EVENTS = 100
SELECT_PARKED_TYPES = (
    "SELECT sequence, CAST(type AS BLOB) FROM bus_set_aside JOIN bus_log USING (sequence)"
    f" WHERE consumer = ? AND state IN {BLOCKING_STATES} ORDER BY sequence"
)
VERSION = re.compile("[1-9][0-9]*")


class UnknownVersion(Unavailable):
    """A newer program has published an event that a consumer needs; no attempt is counted, and nothing is parked."""

    def __init__(self, consumer: str, sequence: int, type_: str) -> None:
        super().__init__(
            "behind",
            f"{consumer} stops at event {sequence}: this program does not know the version {type_}.",
            hint=f"Upgrade popug; {consumer} then continues with this event.",
            details={"consumer": consumer, "sequence": sequence, "type": type_},
        )


def is_unknown_version(consumer: "Consumer", type_: str) -> bool:
    """Return whether a type is a version of a subscribed event that this program does not know."""
    prefix = type_.rstrip(digits)
    return prefix in consumer.prefixes and type_ not in consumer.types and bool(VERSION.fullmatch(type_, len(prefix)))


def up_to_unknown_version(
    consumer: "Consumer", rows: Sequence[StoredEvent]
) -> tuple[Sequence[StoredEvent], StoredEvent | None]:
    """Return the rows before the first one of an unknown version, and that row, or None if there is none.

    Rows of a type that only resembles a version, such as ``….v0``, are left out.
    """
    known_types = set(consumer.types)
    if known_types.issuperset({type_ for _, type_, _ in rows}):
        return rows, None
    known = []
    for row in rows:
        if row[1] in known_types:
            known.append(row)
        elif is_unknown_version(consumer, row[1]):
            return known, row
    return known, None


def unknown_versions(context: Context, consumers: Sequence["Consumer"]) -> Iterator[UnknownVersion]:
    """Yield an error for each consumer that has an event of an unknown version to process: the first of them.

    It is after the cursor, or a newer program has parked it.
    """
    positions = cursor_positions(context)
    for consumer in consumers:
        parked = context.connection.select(SELECT_PARKED_TYPES, consumer.name)
        rows = [
            *((sequence, decode_text(type_)) for sequence, type_ in parked),
            *context.log.unknown_versions_after(positions.get(consumer.name, 0), consumer.types, consumer.prefixes),
        ]
        for sequence, type_ in rows:
            if is_unknown_version(consumer, type_):
                yield UnknownVersion(consumer.name, sequence, type_)
                break


def require_known_versions(context: Context, consumers: Sequence["Consumer"]) -> None:
    """Raise ``UnknownVersion`` if a consumer has an event of an unknown version to process."""
    for error in unknown_versions(context, consumers):
        raise error


def are_current(context: Context, consumers: Sequence["Consumer"]) -> bool:
    """Return whether ``is_current`` is true of each consumer."""
    positions = cursor_positions(context)
    slowest = min((positions.get(c.name, 0) for c in consumers), default=context.position)
    window = context.log.types_after(slowest, MIN_SKIPPED_EVENTS)
    if len(window) == MIN_SKIPPED_EVENTS:
        return all(is_current(context, consumer) for consumer in consumers)
    return not any(
        sequence > positions.get(c.name, 0) and c.subscribes_to(type_) for sequence, type_ in window for c in consumers
    )


def is_current(context: Context, consumer: "Consumer") -> bool:
    """Return whether the consumer has processed, parked or dropped all its events up to the context's position."""
    return not context.log.contains(
        consumer.types,
        prefixes=consumer.prefixes,
        after=cursor_position(context, consumer.name),
        up_to=context.position,
    )


def skip_unrelated(context: Context, consumers: Sequence["Consumer"]) -> None:
    """Advance the cursors of up-to-date consumers past this transaction's events, if none concerns them.

    With fewer than ``MIN_SKIPPED_EVENTS`` events, do nothing: the consumers scan so few events quickly.
    """
    if context.events.last_position - context.position < MIN_SKIPPED_EVENTS:
        return
    for consumer in consumers:
        if not context.events.may_have_published(consumer.types) and is_current(context, consumer):
            cursor = cursor_position(context, consumer.name)
            advance(context, consumer.name, cursor, context.events.last_position)


def mark_published_done(context: Context, consumer: str) -> None:
    """Record this transaction's events as done by a consumer that was up to date: the transaction has their effects."""
    cursor = cursor_position(context, consumer)
    advance(context, consumer, cursor, max(cursor, context.events.last_position))


def mark_rebuilt(context: Context, consumer: "Consumer") -> None:
    """Record the consumer's events as processed by a rebuild, except parked and dropped ones; move its cursor.

    The context's position must be the end of the log.
    """
    inbox.mark_done(context, consumer.name, 1, context.position)
    _set_cursor(context, consumer.name, context.position)


def cursor_position(context: Context, consumer: str) -> int:
    """Return the position of a consumer's cursor, 0 before its first event."""
    return context.connection.scalar("SELECT position FROM bus_cursors WHERE consumer = :name", name=consumer) or 0


def cursor_positions(context: Context) -> dict[str, int]:
    """Return the positions of all cursors by consumer."""
    return dict(context.connection.select("SELECT consumer, position FROM bus_cursors"))


def advance(context: Context, consumer: str, cursor: int, position: int) -> None:
    """Move the cursor to a position, and record that the consumer has done its events up to there, unless parked."""
    inbox.mark_done(context, consumer, cursor + 1, position)
    _set_cursor(context, consumer, position)


def _set_cursor(context: Context, consumer: str, position: int) -> None:
    statement = (
        "INSERT INTO bus_cursors (consumer, position) VALUES (:consumer, :position)"
        " ON CONFLICT (consumer) DO UPDATE SET position = excluded.position"
    )
    context.connection.execute(statement, consumer=consumer, position=position)

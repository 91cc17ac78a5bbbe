"""Recompute the hash chain over the log, and compare the stored types of events with their envelopes."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import islice

import msgspec

from popug_cli.audit.log_pass import UNREADABLE_ENVELOPE_ERRORS, LogBatch, LogCheck, LogRow, has_enough
from popug_cli.audit.missing_links import own_unlinked
from popug_cli.audit.result import MAX_SHOWN_VIOLATIONS, check_result
from popug_cli.bus.context import Context
from popug_cli.bus.hash_chain import GENESIS_HASH
from popug_cli.bus.unlinked_events import unlinked_positions
from popug_cli.messages.company import Check

Link = tuple[int, int, str]  # the positions of its last and first event, and its hash


def chain(context: Context) -> LogCheck:
    """Check that every link has the hash of its events and the previous link, and that no link is missing.

    Events that another program inserted need no link; the result of a check that passes names them and the head.
    """
    links = _Links(context)
    violations: list[str] = []
    while (batch := (yield)) is not None and not has_enough(violations):
        violations += links.read(batch.rows)
    violations += islice(links.rest(), MAX_SHOWN_VIOLATIONS + 1)
    head = context.log.head_hash() or GENESIS_HASH
    result = check_result("hash_chain", f"the hash chain over the log is unbroken and its head is {head}", violations)
    if result.ok and (unlinked := unlinked_positions(context)):
        if removed := list(islice(own_unlinked(context, unlinked), MAX_SHOWN_VIOLATIONS + 1)):
            detail = f"links were removed: no link covers the events that popug wrote at {_format_positions(removed)}"
            return Check(result.name, False, detail)
        return Check(
            result.name,
            True,
            f"{result.detail}; not linked, because another program inserted them: {_format_positions(unlinked)}",
        )
    return result


def event_types(context: Context) -> LogCheck:
    """Check that every event has the type of its envelope."""
    violations: list[str] = []
    while (batch := (yield)) is not None and not has_enough(violations):
        violations += (f"the event at {position}" for position in _mistyped(batch, context))
    return check_result("event_types_match_envelopes", "event types match their envelopes", violations)


def is_part_of_history(context: Context, head: str) -> bool:
    """Return whether ``head`` is the hash of a link, and so was once the head, or the origin of every chain."""
    statement = "SELECT 1 FROM bus_links WHERE hash = ? LIMIT 1"
    return head == GENESIS_HASH or context.connection.select_one(statement, head) is not None


class Typed(msgspec.Struct):
    """The type of an envelope."""

    type: str


_decode_typed = msgspec.json.Decoder(Typed).decode


class _Links:
    """The links in the order of the log, each compared with the events that it covers."""

    def __init__(self, context: Context) -> None:
        statement = "SELECT last_sequence, first_sequence, hash FROM bus_links ORDER BY last_sequence"
        self._links: Iterator[Link] = context.connection.stream(statement)
        self._previous_last, self._previous_hash = 0, GENESIS_HASH
        self._begin_next()

    def _begin_next(self) -> None:
        self._link = next(self._links, None)
        self._digest, self._count = sha256(self._previous_hash.encode()), 0

    def read(self, rows: Sequence[LogRow]) -> Iterator[str]:
        """Read the next rows of the log; describe the links that end before the last row and are wrong."""
        start = 0
        while start < len(rows) and self._link is not None:
            last, first, _ = self._link
            end = bisect_right(rows, last, lo=start, key=_position_of)
            covered = rows[bisect_left(rows, first, lo=start, hi=end, key=_position_of) : end]
            self._count += len(covered)
            self._digest.update(b"".join([b"%d:%d:%b" % (row[0], len(row[2]), row[2]) for row in covered]))
            start = end
            if end < len(rows):
                yield from self._end_link(self._link)

    def rest(self) -> Iterator[str]:
        """Describe the wrong links among those that end at the last event or after it."""
        while self._link is not None:
            yield from self._end_link(self._link)

    def _end_link(self, link: Link) -> Iterator[str]:
        last, first, recorded = link
        if first <= self._previous_last:
            yield f"link {last} overlaps the previous one"
        if self._count != last - first + 1 or self._digest.hexdigest() != recorded:
            yield f"the events {first} to {last}"
        self._previous_last, self._previous_hash = last, recorded
        self._begin_next()


def _mistyped(batch: LogBatch, context: Context) -> Iterator[int]:
    """Yield the positions of the events whose envelope has another type; SQL decides what ``_type_of`` cannot."""
    statement = "SELECT 1 FROM bus_log WHERE sequence = ? AND type IS NOT json_extract(envelope, '$.type')"
    for position, type_, envelope in batch.other_rows:
        if (type_ is None or _type_of(envelope) != type_) and context.connection.select_one(statement, position):
            yield position


def _type_of(envelope: bytes) -> bytes | None:
    try:
        return _decode_typed(envelope).type.encode()
    except (*UNREADABLE_ENVELOPE_ERRORS, UnicodeEncodeError):
        return None


def _position_of(row: LogRow) -> int:
    return row[0]


def _format_positions(positions: list[int]) -> str:
    more = " and more" if len(positions) > MAX_SHOWN_VIOLATIONS else ""
    return ", ".join(map(str, positions[:MAX_SHOWN_VIOLATIONS])) + more

"""Recompute the hash chain over the log."""

from collections.abc import Iterator
from hashlib import sha256
from itertools import islice

from popug_cli.audit.missing_links import own_unlinked
from popug_cli.audit.result import MAX_SHOWN_VIOLATIONS, check_result
from popug_cli.bus.context import Context
from popug_cli.bus.hash_chain import GENESIS_HASH
from popug_cli.bus.unlinked_events import unlinked_positions
from popug_cli.messages.company import Check

EVENTS_PER_HASH_UPDATE = 100
Link = tuple[int, int, str]  # the positions of its last and first event, and its hash


def chain(context: Context) -> Check:
    """Check that every link has the hash of its events and the previous link, and that no link is missing.

    Events that another program inserted need no link; the result of a check that passes names them and the head.
    """
    violations = list(islice(broken_links(context), MAX_SHOWN_VIOLATIONS + 1))
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


def is_part_of_history(context: Context, head: str) -> bool:
    """Return whether ``head`` is the hash of a link, and so was once the head, or the origin of every chain."""
    statement = "SELECT 1 FROM bus_links WHERE hash = ? LIMIT 1"
    return head == GENESIS_HASH or context.connection.select_one(statement, head) is not None


def broken_links(context: Context) -> Iterator[str]:
    """Describe the links that overlap the previous one, lack events or have a wrong hash, in the order of the log."""
    events = _Events(context)
    previous_hash, previous_last = GENESIS_HASH, 0
    for last, first, recorded in _links(context):
        if first <= previous_last:
            yield f"link {last} overlaps the previous one"
        count, actual_hash = events.hash_between(first, last, previous_hash)
        if count != last - first + 1 or actual_hash != recorded:
            yield f"the events {first} to {last}"
        previous_hash, previous_last = recorded, last


class _Events:
    """The log, read once from its first event to its last."""

    def __init__(self, context: Context) -> None:
        statement = "SELECT sequence, CAST(envelope AS BLOB) FROM bus_log ORDER BY sequence"
        self._rows = context.connection.stream(statement)
        self._next = next(self._rows, None)
        self._context, self._end = context, context.position

    def hash_between(self, first: int, last: int, previous_hash: str) -> tuple[int, str]:
        """Return the number of events from ``first`` to ``last``, and the hash of their link.

        ``previous_hash`` is that of the previous link. The ranges of successive calls must ascend.
        """
        digest, count, parts = sha256(previous_hash.encode()), 0, list[bytes]()
        while self._next is not None and self._next[0] <= last:
            sequence, envelope = self._next
            if sequence >= first:
                count += 1
                parts += (b"%d:%d:" % (sequence, len(envelope)), envelope)
                if not count % EVENTS_PER_HASH_UPDATE:
                    digest.update(b"".join(parts))
                    parts.clear()
                    self._context.progress("Verifying the log", sequence, self._end)
            self._next = next(self._rows, None)
        digest.update(b"".join(parts))
        return count, digest.hexdigest()


def _format_positions(positions: list[int]) -> str:
    more = " and more" if len(positions) > MAX_SHOWN_VIOLATIONS else ""
    return ", ".join(map(str, positions[:MAX_SHOWN_VIOLATIONS])) + more


def _links(context: Context) -> Iterator[Link]:
    return context.connection.stream("SELECT last_sequence, first_sequence, hash FROM bus_links ORDER BY last_sequence")

"""The hash chain over the log, computed anew."""

from collections.abc import Iterator
from hashlib import sha256
from itertools import islice

from popug_cli.audit.cut import own_among
from popug_cli.audit.reading import rows
from popug_cli.audit.verdict import SHOWN, verdict
from popug_cli.bus.chain import ORIGIN
from popug_cli.bus.outside import not_linked
from popug_cli.bus.runtime import Context
from popug_cli.messages.company import Check

HASHED_AT_ONCE = 100
Link = tuple[int, int, str]


def chain(context: Context) -> Check:
    """Whether every link has the hash that its events and the link before it give, and none is gone; names the head."""
    wrong = list(islice(broken_links(context), SHOWN + 1))
    head = context.log.head_hash() or ORIGIN
    found = verdict("hash_chain", f"the chain over the log is unbroken; its head is {head}", wrong)
    if found.ok and (loose := not_linked(context)):
        if own := list(islice(own_among(context, loose), SHOWN + 1)):
            cut = f"links were taken away: nothing covers what popug told at {_in_words(own)}"
            return Check(found.name, False, cut)
        return Check(found.name, True, f"{found.detail}; not linked, since appended from outside: {_in_words(loose)}")
    return found


def is_part_of_history(context: Context, head: str) -> bool:
    """Whether the chain ever had this head."""
    statement = "SELECT 1 FROM bus_links WHERE hash = ? LIMIT 1"
    return head == ORIGIN or context.connection.exec_driver_sql(statement, (head,)).first() is not None


def broken_links(context: Context) -> Iterator[str]:
    """The links whose hash is not that of their events, in the order of the log."""
    events = _Events(context)
    before, end = ORIGIN, 0
    for last, first, told in _links(context):
        if first <= end:
            yield f"link {last} overlaps the one before"
        count, found = events.hashed(first, last, before)
        if count != last - first + 1 or found != told:
            yield f"the events {first} to {last}"
        before, end = told, last


class _Events:
    """The log, read once from its beginning to its end."""

    def __init__(self, context: Context) -> None:
        statement = "SELECT sequence, CAST(envelope AS BLOB) FROM bus_log ORDER BY sequence"
        self._rows = rows(context, statement)
        self._next = next(self._rows, None)
        self._context, self._end = context, context.position

    def hashed(self, first: int, last: int, before: str) -> tuple[int, str]:
        """How many events there are from one position to another, and the hash of their link after the one before."""
        digest, count, parts = sha256(before.encode()), 0, list[bytes]()
        while self._next is not None and self._next[0] <= last:
            sequence, envelope = self._next
            if sequence >= first:
                count += 1
                parts += (b"%d:%d:" % (sequence, len(envelope)), envelope)
                if not count % HASHED_AT_ONCE:
                    digest.update(b"".join(parts))
                    parts.clear()
                    self._context.progress("Proving the log", sequence, self._end)
            self._next = next(self._rows, None)
        digest.update(b"".join(parts))
        return count, digest.hexdigest()


def _in_words(positions: list[int]) -> str:
    more = " and more" if len(positions) > SHOWN else ""
    return ", ".join(map(str, positions[:SHOWN])) + more


def _links(context: Context) -> Iterator[Link]:
    return rows(context, "SELECT last_sequence, first_sequence, hash FROM bus_links ORDER BY last_sequence")

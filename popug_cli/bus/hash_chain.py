"""The hash chain over the log: a link for each transaction's run of events.

A link's hash is the SHA-256 of the hash before it, then of each event of the run: its position, the length of its
envelope in bytes, both in decimal and ended by a colon, and the envelope. The first link follows 64 zeros.
"""

from collections.abc import Iterable
from hashlib import sha256

ORIGIN = "0" * 64


class LinkHasher:
    """The hash of a run of events that is still being written."""

    def __init__(self, previous_hash: str) -> None:
        self._digest = sha256(previous_hash.encode())

    def extend(self, events: Iterable[tuple[int, bytes]]) -> None:
        """Take in the next events: the position and the envelope of each."""
        for sequence, envelope in events:
            self._digest.update(b"%d:%d:%b" % (sequence, len(envelope), envelope))

    def copy(self) -> "LinkHasher":
        """The same run so far, to come back to."""
        copy = LinkHasher.__new__(LinkHasher)
        copy._digest = self._digest.copy()
        return copy

    def hash(self) -> str:
        """The link's hash in hexadecimal."""
        return self._digest.hexdigest()

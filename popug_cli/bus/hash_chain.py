"""The hash chain over the log: one link for each transaction's run of events.

A link's hash is the SHA-256 of the previous hash, followed by each event of the run: position, length and envelope.
Position and length are decimal, each ended by a colon; the length counts the envelope's bytes. The first link follows
64 zeros.
"""

from collections.abc import Iterable
from hashlib import sha256

ORIGIN = "0" * 64


class LinkHasher:
    """Compute the hash of a run of events while the run is being written."""

    def __init__(self, previous_hash: str) -> None:
        self._digest = sha256(previous_hash.encode())

    def extend(self, events: Iterable[tuple[int, bytes]]) -> None:
        """Add the next events, each as (position, envelope)."""
        for sequence, envelope in events:
            self._digest.update(b"%d:%d:%b" % (sequence, len(envelope), envelope))

    def copy(self) -> "LinkHasher":
        """Return a copy, to be restored after a rollback."""
        copy = LinkHasher.__new__(LinkHasher)
        copy._digest = self._digest.copy()
        return copy

    def hash(self) -> str:
        """Return the link's hash in hexadecimal."""
        return self._digest.hexdigest()

"""The hash chain over the log: each link covers consecutive events of one transaction.

A transaction that publishes events appends a link at its end. A close with payouts appends one more before its
``payout_made`` events, which quote that link's hash.

A link's hash is the SHA-256, in hexadecimal, of the previous link's hexadecimal hash and, for each event, of its
position, length and envelope. Position and length are decimal, each followed by a colon; the length counts the
envelope's bytes. The first link takes ``GENESIS_HASH``, 64 zeros, as the previous hash.
"""

from collections.abc import Iterable
from hashlib import sha256

GENESIS_HASH = "0" * 64


class LinkHasher:
    """The hash of a link, computed while its events are being written."""

    def __init__(self, previous_hash: str) -> None:
        self._digest = sha256(previous_hash.encode())

    def extend(self, events: Iterable[tuple[int, bytes]]) -> None:
        """Add the next events, each as (position, envelope)."""
        for position, envelope in events:
            self._digest.update(b"%d:%d:%b" % (position, len(envelope), envelope))

    def copy(self) -> "LinkHasher":
        """Return a copy, for use after a rollback to a savepoint."""
        copy = LinkHasher.__new__(LinkHasher)
        copy._digest = self._digest.copy()
        return copy

    def hash(self) -> str:
        """Return the hash of the link over the events added so far, in hexadecimal."""
        return self._digest.hexdigest()

"""Appending to the log, in the transaction of the change that the events tell of (the outbox)."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import msgspec
from sqlalchemy import Connection

from popug_cli.bus.hash_chain import ORIGIN, LinkHasher
from popug_cli.bus.log import Log
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.errors import IntegrityViolation
from popug_cli.kernel.randomness import RandomSource, monotonic_uuid7s
from popug_cli.messages.base import Event
from popug_cli.messages.envelope import Delivered, Envelope
from popug_cli.storage.engine import insert_many, raw_connection

BUFFER_EVENTS = 1_000
LAST_POSITION = 2**63 - 1
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class PublisherSavepoint:
    """A place in a publisher to come back to when a savepoint is rolled back."""

    last: int
    first: int
    link_hasher: LinkHasher | None


class Publisher:
    """Gives events their positions, writes them in bulk and links each run into the chain.

    Only used under the write lock. What has no cause is correlated by the command and done by its actor; what has
    one inherits both from it.
    """

    def __init__(
        self, connection: Connection, now: datetime, randomness: RandomSource, actor: str, correlation_id: str
    ) -> None:
        self._connection = connection
        self._time = to_rfc3339(now)
        self._actor = actor
        self._correlation_id = correlation_id
        self._last = -1
        self._first = 0
        self._link_hasher: LinkHasher | None = None
        self._unwritten: list[bytes] = []
        self._types: set[str] = set()
        self._ids = monotonic_uuid7s(now, randomness)

    def new_id(self) -> str:
        """A fresh UUIDv7."""
        return next(self._ids)

    @property
    def last(self) -> int:
        """The position of the last event published here; -1 before the first."""
        return self._last

    def may_have_published(self, types: Iterable[str]) -> bool:
        """Whether an event of one of these types was published here, and perhaps taken back."""
        return not self._types.isdisjoint(types)

    def set_actor(self, username: str) -> None:
        """What is published from now on without a cause was done by this person."""
        self._actor = username

    def publish(
        self,
        event: Event,
        *,
        cause: Delivered[Event] | None = None,
        event_id: str | None = None,
        causation_id: str | None = None,
    ) -> str:
        """Append an event; its id comes back, or the one that was chosen for it before.

        ``causation_id`` names as its cause an event that was published in this very transaction.
        """
        event_id = event_id or next(self._ids)
        if self._link_hasher is None:
            self._start_link()
        self._last += 1
        self._types.add(event.TYPE)
        encoded = _encode(
            Envelope(
                id=event_id,
                source=event.SOURCE,
                type=event.TYPE,
                subject=event.subject,
                time=self._time,
                data=event,
                sequence=str(self._last),
                specversion="1.0",
                datacontenttype="application/json",
                dataschema=event.SCHEMA,
                causationid=cause.id if cause else causation_id,
                correlationid=cause.correlation_id if cause else self._correlation_id,
                actor=cause.actor if cause else self._actor,
            )
        )
        self._unwritten.append(encoded)
        if len(self._unwritten) >= BUFFER_EVENTS:
            self.flush()
        return event_id

    def flush(self) -> None:
        """Write what is buffered, so that it can be read."""
        if not self._unwritten:
            return
        assert self._link_hasher is not None
        if self._last > LAST_POSITION:
            raise _full()
        first = self._last - len(self._unwritten) + 1
        self._link_hasher.extend(enumerate(self._unwritten, start=first))
        rows = [(sequence, encoded.decode()) for sequence, encoded in enumerate(self._unwritten, start=first)]
        # One at a time: what has neither references nor triggers needs nothing prepared to be undone then.
        raw_connection(self._connection).executemany("INSERT INTO bus_log (sequence, envelope) VALUES (?, ?)", rows)
        self._unwritten = []

    def close_link(self) -> str:
        """Link what was appended since the last link; the head of the chain comes back."""
        self.flush()
        if self._link_hasher is None:
            return Log(self._connection).head_hash() or ORIGIN
        head = self._link_hasher.hash()
        insert_many(
            self._connection,
            "INSERT INTO bus_links (last_sequence, first_sequence, hash) VALUES (?, ?, ?)",
            [(self._last, self._first, head)],
        )
        self._link_hasher = None
        return head

    def savepoint(self) -> PublisherSavepoint:
        """The place to come back to, taken before a savepoint."""
        self.flush()
        return PublisherSavepoint(self._last, self._first, self._link_hasher.copy() if self._link_hasher else None)

    def restore(self, savepoint: PublisherSavepoint) -> None:
        """Forget what was published since the mark."""
        self._unwritten = []
        self._last, self._first, self._link_hasher = (
            savepoint.last,
            savepoint.first,
            savepoint.link_hasher.copy() if savepoint.link_hasher else None,
        )

    def _start_link(self) -> None:
        log = Log(self._connection)
        if self._last < 0:
            self._last = log.last_position()
        self._first = self._last + 1
        self._link_hasher = LinkHasher(log.head_hash() or ORIGIN)


def _full() -> IntegrityViolation:
    return IntegrityViolation(
        "integrity",
        f"The log has an event at the last position that there is, or close to it: {LAST_POSITION}.",
        hint="Nothing can be appended after it; restore a backup from before that event.",
    )

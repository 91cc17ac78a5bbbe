"""The transactional outbox: append events to the log in the transaction of the change that they describe."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import msgspec

from popug_cli.bus.hash_chain import GENESIS_HASH, LinkHasher
from popug_cli.bus.log import Log
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.errors import Conflict, IntegrityViolation
from popug_cli.kernel.randomness import RandomSource, monotonic_uuid7s
from popug_cli.messages.base import Event
from popug_cli.messages.envelope import Delivered, Envelope
from popug_cli.storage.port import Connection

BUFFER_EVENTS = 1_000
MAX_POSITION = 2**63 - 1
MAX_EVENT_BYTES = 900_000  # so that an event fits into one record of Kafka, whose limit is 1,048,588 bytes by default
INSERT_WITH_COLUMNS = (
    "INSERT INTO bus_log (sequence, envelope, type, id, subject, actor, time) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class PublisherSavepoint:
    """The state of a publisher, to be restored when a database savepoint is rolled back.

    ``last_position`` is that of the last published event; ``link_start`` is the first position of the open link.
    """

    last_position: int
    link_start: int
    link_hasher: LinkHasher | None


class Publisher:
    """The outbox of one transaction: it assigns positions to events, writes them in bulk and links them to the chain.

    Use it under the write lock only; ``position`` is that of the last event in the log. An event with a ``cause``
    inherits its actor and correlation id from it; other events get those of the command.
    """

    def __init__(
        self,
        connection: Connection,
        now: datetime,
        randomness: RandomSource,
        actor: str,
        correlation_id: str,
        position: int,
    ) -> None:
        self._connection = connection
        self._time = to_rfc3339(now)
        self._actor = actor
        self._correlation_id = correlation_id
        self._position = position
        self._last_position = -1
        self._link_start = 0
        self._link_hasher: LinkHasher | None = None
        self._unwritten: list[bytes] = []
        self._types: set[str] = set()
        self._ids = monotonic_uuid7s(now, randomness)

    def new_id(self) -> str:
        """Return a new UUIDv7."""
        return next(self._ids)

    @property
    def last_position(self) -> int:
        """The position of the last event that this transaction published, or -1 before the first."""
        return self._last_position

    @property
    def types(self) -> frozenset[str]:
        """The types of the events that this transaction published, even if rolled back since."""
        return frozenset(self._types)

    def may_have_published(self, types: Iterable[str]) -> bool:
        """Return whether this transaction published an event of these types, even if rolled back since."""
        return not self._types.isdisjoint(types)

    def set_actor(self, username: str) -> None:
        """Set the actor of all later events that have no cause."""
        self._actor = username

    def publish(
        self,
        event: Event,
        *,
        cause: Delivered[Event] | None = None,
        event_id: str | None = None,
        causation_id: str | None = None,
        business_date: date | None = None,
        password_digest: str | None = None,
    ) -> str:
        """Append an event and return its id: ``event_id``, or a new one.

        Without a ``cause``, ``causation_id`` is the id of the causing event, if this transaction published that. The
        event is buffered until the next ``flush``, whose error this may raise. Raise ``event_too_large`` if the
        envelope has more than ``MAX_EVENT_BYTES`` bytes.
        """
        event_id = event_id or next(self._ids)
        if self._link_hasher is None:
            self._start_link()
        position = self._last_position + 1
        encoded = _encode(
            Envelope(
                id=event_id,
                source=event.SOURCE,
                type=event.TYPE,
                subject=event.subject,
                time=self._time,
                data=event,
                sequence=str(position),
                specversion="1.0",
                datacontenttype="application/json",
                dataschema=event.SCHEMA,
                causationid=cause.id if cause else causation_id,
                correlationid=cause.correlation_id if cause else self._correlation_id,
                actor=cause.actor if cause else self._actor,
                businessdate=business_date,
                passworddigest=password_digest,
            )
        )
        if len(encoded) > MAX_EVENT_BYTES:
            raise _event_too_large(event.TYPE, len(encoded))
        self._last_position = position
        self._types.add(event.TYPE)
        self._unwritten.append(encoded)
        if len(self._unwritten) >= BUFFER_EVENTS:
            self.flush()
        return event_id

    def append_received(self, origin: str, events: Sequence[tuple[int, str]]) -> None:
        """Append events of another service, byte for byte, and mark them as received; the hash chain covers them too.

        ``events`` are positions in the log of ``origin``, with the envelopes. Raise ``integrity`` if the log is full.
        """
        if not events:
            return
        self.flush()
        if self._link_hasher is None:
            self._start_link()
        first = self._last_position + 1
        self._last_position += len(events)
        self._unwritten = [envelope.encode() for _, envelope in events]
        self.flush()
        self._connection.insert_many(
            "INSERT INTO bus_received (sequence, origin, origin_position) VALUES (?, ?, ?)",
            [(first + index, origin, position) for index, (position, _) in enumerate(events)],
        )

    def flush(self) -> None:
        """Write the buffered events to the table, so that they can be read; raise ``integrity`` if the log is full."""
        if not self._unwritten:
            return
        assert self._link_hasher is not None
        if self._last_position > MAX_POSITION:
            raise _log_full()
        first = self._last_position - len(self._unwritten) + 1
        self._link_hasher.extend(enumerate(self._unwritten, start=first))
        rows = [(sequence, encoded.decode()) for sequence, encoded in enumerate(self._unwritten, start=first)]
        if self._connection.computes_columns:
            # One row a statement: without references and insert triggers, SQLite then needs no statement journal.
            self._connection.execute_many("INSERT INTO bus_log (sequence, envelope) VALUES (?, ?)", rows)
        else:
            self._connection.execute_many(INSERT_WITH_COLUMNS, [row + columns_of(row[1]) for row in rows])
        self._unwritten = []

    def close_link(self) -> str:
        """Append a link that covers the events since the last link, if any; return the hash of the last link."""
        self.flush()
        if self._link_hasher is None:
            return Log(self._connection).head_hash() or GENESIS_HASH
        head = self._link_hasher.hash()
        self._connection.insert_many(
            "INSERT INTO bus_links (last_sequence, first_sequence, hash) VALUES (?, ?, ?)",
            [(self._last_position, self._link_start, head)],
        )
        self._link_hasher = None
        return head

    def savepoint(self) -> PublisherSavepoint:
        """Write the buffered events and return the state to restore if a savepoint is rolled back."""
        self.flush()
        link_hasher = self._link_hasher.copy() if self._link_hasher else None
        return PublisherSavepoint(self._last_position, self._link_start, link_hasher)

    def restore(self, savepoint: PublisherSavepoint) -> None:
        """Forget the events published since ``savepoint``; the caller rolls back the database's savepoint."""
        self._unwritten = []
        self._last_position, self._link_start, self._link_hasher = (
            savepoint.last_position,
            savepoint.link_start,
            savepoint.link_hasher.copy() if savepoint.link_hasher else None,
        )

    def _start_link(self) -> None:
        if self._last_position < 0:
            self._last_position = self._position
        self._link_start = self._last_position + 1
        self._link_hasher = LinkHasher(Log(self._connection).head_hash() or GENESIS_HASH)


class _RepeatedFields(msgspec.Struct):
    type: str
    id: str
    subject: str
    time: str
    actor: str | None = None


_decode_repeated_fields = msgspec.json.Decoder(_RepeatedFields).decode


def columns_of(envelope: str) -> tuple[str, str, str, str | None, str]:
    """Return the fields of an envelope that are also columns of the log."""
    fields = _decode_repeated_fields(envelope)
    return fields.type, fields.id, fields.subject, fields.actor, fields.time


def _log_full() -> IntegrityViolation:
    return IntegrityViolation(
        "integrity",
        f"The log has an event at or near the last possible position, {MAX_POSITION}.",
        hint="No event can be appended after it; restore a backup from before that event.",
    )


def _event_too_large(type_: str, size_bytes: int) -> Conflict:
    return Conflict(
        "event_too_large",
        f"An event {type_} would have {size_bytes:,} bytes; an event may have at most {MAX_EVENT_BYTES:,}.",
        hint="Nothing was changed. Use shorter texts, or fewer items at a time.",
        details={"type": type_, "size_bytes": size_bytes, "max_bytes": MAX_EVENT_BYTES},
    )

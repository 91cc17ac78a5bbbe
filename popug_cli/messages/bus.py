"""Messages of the bus: the log, the cursors of consumers, dead letters."""

from datetime import datetime
from typing import Any

import msgspec

from popug_cli.messages.base import (
    ADMINS,
    Access,
    Command,
    Count,
    Event,
    Id,
    Limit,
    Query,
    declare,
    event,
)

EnvelopeDocument = dict[str, Any]
AsyncApiDocument = dict[str, Any]


class EventPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Events as they are in the log, by sequence.

    Those of several services are by time, and each has its ``service``, in whose log it has the ``sequence``. Then
    ``cursor`` is the end of the page.
    """

    events: list[EnvelopeDocument]
    cursor: str | None = None


class ConsumerStatus(msgspec.Struct, frozen=True):
    """The cursor of a consumer.

    ``lag`` counts the events after ``position`` that it has to process. ``waiting`` counts events that wait for a retry
    or behind a parked event.
    """

    consumer: str
    position: int
    lag: int
    dead: int
    waiting: int


class UnknownType(msgspec.Struct, frozen=True):
    """Events of a type or version that this program does not know: they are kept, and no consumer processes them.

    Events of an unknown type are skipped. At an unknown version of an event, its consumers stop until an upgrade.
    """

    type: str
    count: int


class StreamHistoryChange(msgspec.Struct, frozen=True):
    """Why a stream takes nothing more: at ``position``, the publisher's log contradicts the accepted events.

    ``held_id`` is the id of the event that the service has there, and ``its_id`` that of the publisher, or empty.
    """

    reason: str
    position: int
    held_id: str
    its_id: str
    found_at: datetime


class StreamStatus(msgspec.Struct, frozen=True):
    """The stream that a service receives of ``origin``.

    ``last`` is the position of the last accepted event in the publisher's log. Everything up to ``watermark`` is there.
    ``behind`` counts the received events that a consumer still has to process. ``mangled`` and ``other_log`` count
    records that were ignored. ``next_offset`` is the place in the topic. An event has been missing since
    ``gap_since``.
    """

    origin: str
    log_id: str
    last: int
    watermark: int
    behind: int
    next_offset: int
    mangled: int
    other_log: int
    gap_since: datetime | None
    history_change: StreamHistoryChange | None


class RelayStatus(msgspec.Struct, frozen=True):
    """The relay of a service: the topic has its events up to ``position``; ``waiting`` others are still to be sent."""

    log_id: str
    position: int
    waiting: int


class ServiceStatus(msgspec.Struct, frozen=True):
    """The relay and the streams of a service that shares no database."""

    service: str
    relay: RelayStatus
    streams: list[StreamStatus]


class BusStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """The end of the log and the state of each consumer; ``problems`` are sentences for people.

    Only the database of a service has ``service``. Only a cluster has ``services``, the status of each service by name;
    then ``last_sequence`` is the greatest of theirs.
    """

    last_sequence: int
    consumers: list[ConsumerStatus]
    unknown: list[UnknownType]
    problems: list[str]
    service: ServiceStatus | None = None
    services: "dict[str, BusStatus] | None" = None


class DeadLetter(msgspec.Struct, frozen=True):
    """An event that a consumer failed on, how many events wait behind it, and the money at stake in all of them.

    ``state`` is ``dead``, or ``retrying`` if it will be retried automatically. ``id`` is ``dead_id`` as text; on a
    cluster, the name of the service and a colon precede it.
    """

    dead_id: int
    consumer: str
    event: EnvelopeDocument
    state: str
    error: str
    attempts: int
    waiting: int
    amount_cents: int
    id: str


class DeadLetters(msgspec.Struct, frozen=True):
    """Dead and retrying events, oldest first."""

    dead: list[DeadLetter]


class DroppedLetter(msgspec.Struct, frozen=True):
    """A dropped dead letter: its effects on the consumer are skipped; ``amount_cents`` was at stake in it."""

    event_id: str
    type: str
    consumer: str
    amount_cents: int


class RetryResult(msgspec.Struct, frozen=True):
    """The number of parked events that are done now, and of retried ones that failed again."""

    retried: int
    still_dead: int


class Difference(msgspec.Struct, frozen=True):
    """A table whose rebuilt rows differ from the live ones, with one of those rows."""

    table: str
    rows: int
    example: str


class ReplayReport(msgspec.Struct, frozen=True):
    """The number of events that a rebuild read, and the differences it found."""

    events: int
    differences: list[Difference]


class TraceLine(msgspec.Struct, frozen=True):
    """One event in the chain of a task, with its cause and its consumers.

    ``consumers`` has the state for each subscribed consumer: ``done``, ``pending``, ``retrying``, ``waiting``, ``dead``
    or ``dropped``. ``occurred_at`` is the time for which an entry was posted, if it is not ``at``. ``service`` is the
    publisher; on a cluster, ``sequence`` is the position in its log.
    """

    sequence: int
    at: datetime
    event: str
    actor: str
    event_id: str
    causationid: str | None
    correlationid: str | None
    detail: str
    consumers: dict[str, str]
    occurred_at: datetime | None = None
    service: str = ""


class Trace(msgspec.Struct, frozen=True):
    """The whole chain of a task, in the order of the log, from its creation to the mail about its money."""

    number: int
    steps: list[TraceLine]


class Schemas(msgspec.Struct, frozen=True):
    """The JSON Schema of every version of every event."""

    schemas: dict[str, dict[str, Any]]


@declare("events list", roles=ADMINS)
class ListEvents(Query[EventPage], frozen=True, kw_only=True):
    """Return the events after a position; ``type`` is a full type or its middle name.

    ``last`` begins with the first of the last events that match, of which there are as many. ``service`` is the module
    that publishes the events. On a cluster, ``after`` needs it, and ``cursor`` continues after an earlier page.
    """

    type: str | None = None
    subject: str | None = None
    actor: str | None = None
    after: Count = 0
    limit: Limit | None = None
    last: Limit | None = None
    service: str | None = None
    cursor: str | None = None


@declare("events show", roles=ADMINS)
class ShowEvent(Query[EnvelopeDocument], frozen=True, kw_only=True):
    """Return one event."""

    event_id: str


@declare("events status", roles=ADMINS)
class ShowBusStatus(Query[BusStatus], frozen=True):
    """Return the end of the log, the state of every consumer, unknown event types, and problems."""


@declare("events dead", roles=ADMINS)
class ListDeadLetters(Query[DeadLetters], frozen=True):
    """Return the dead letters and the events that are being retried."""


@declare("events retry", roles=ADMINS)
class RetryDeadLetters(Command[RetryResult], frozen=True, kw_only=True):
    """Retry one parked event, or all dead letters and pending retries, and process the events that wait behind.

    On a cluster, one parked event needs the ``service`` that has it.
    """

    dead_id: int | None = None
    service: str | None = None


@declare("events drop", roles=ADMINS)
class DropDeadLetter(Command[DroppedLetter], frozen=True, kw_only=True):
    """Discard one dead letter, for a reason; the events that wait behind it are processed.

    On a cluster, it needs the ``service`` that has it.
    """

    dead_id: int
    reason: str
    service: str | None = None


@declare("events replay", roles=ADMINS)
class ReplayEvents(Command[ReplayReport], frozen=True, kw_only=True):
    """Rebuild the read models from the log, or only compare them with it."""

    verify: bool = False


@declare("events trace", roles=ADMINS)
class TraceTask(Query[Trace], frozen=True, kw_only=True):
    """Return the whole chain of a task."""

    number: int


@declare("events schemas", access=Access.PUBLIC)
class ShowSchemas(Query[Schemas], frozen=True):
    """Return the JSON Schema of every event."""


@declare("events schemas --asyncapi", access=Access.PUBLIC)
class DescribeTopics(Query[AsyncApiDocument], frozen=True):
    """Return the AsyncAPI 3.0 document of the topics of a cluster."""


@event("bus", 1, subject_field="event_id")
class DeadLetterRetried(Event, frozen=True, kw_only=True):
    """A user retried a dead letter; ``done`` if its consumer succeeded this time."""

    event_id: Id
    consumer: str
    sequence: int
    done: bool


@event("bus", 1, subject_field="consumer")
class ReadModelsRebuilt(Event, frozen=True, kw_only=True):
    """A user rebuilt the read models of a consumer from this number of events."""

    consumer: str
    events: int


@event("bus", 1, subject_field="event_id")
class DeadLetterDropped(Event, frozen=True, kw_only=True):
    """A user discarded a dead letter; its effects are skipped permanently."""

    event_id: Id
    consumer: str
    sequence: int
    reason: str

"""What is asked of the bus and told to it: the log, the consumers' places in it, dead letters."""

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


class EventPage(msgspec.Struct, frozen=True):
    """Events as they stand in the log, by sequence."""

    events: list[EnvelopeDocument]


class ConsumerStatus(msgspec.Struct, frozen=True):
    """Where a consumer stands.

    ``lag`` counts events that it still has to take, ``waiting`` what waits for a retry or behind something set aside.
    """

    consumer: str
    position: int
    lag: int
    dead: int
    waiting: int


class UnknownType(msgspec.Struct, frozen=True):
    """Events of a type or version that this program does not know: kept, and skipped by everybody."""

    type: str
    count: int


class BusStatus(msgspec.Struct, frozen=True):
    """The log and who has read how far; ``problems`` are sentences about what should not be."""

    last_sequence: int
    consumers: list[ConsumerStatus]
    unknown: list[UnknownType]
    problems: list[str]


class DeadLetter(msgspec.Struct, frozen=True):
    """An event that a consumer has set aside, how many wait behind it, and the money that hangs on all of them.

    ``state`` is ``dead``, or ``retrying`` where it will be tried again by itself.
    """

    dead_id: int
    consumer: str
    event: EnvelopeDocument
    state: str
    error: str
    attempts: int
    waiting: int
    amount_cents: int


class DeadLetters(msgspec.Struct, frozen=True):
    """What is set aside, oldest first."""

    dead: list[DeadLetter]


class DroppedLetter(msgspec.Struct, frozen=True):
    """A dead letter that was given up: what its consumer will never do, and the money that hung on it alone."""

    event_id: str
    type: str
    consumer: str
    amount_cents: int


class RetryResult(msgspec.Struct, frozen=True):
    """Events that are done now, and events that are dead letters still."""

    retried: int
    still_dead: int


class Difference(msgspec.Struct, frozen=True):
    """A table whose rebuilt rows differ from the live ones, with one of those rows."""

    table: str
    rows: int
    example: str


class ReplayReport(msgspec.Struct, frozen=True):
    """How many events a rebuild read, and where it differs."""

    events: int
    differences: list[Difference]


class TraceLine(msgspec.Struct, frozen=True):
    """One event in the chain of a task, from what caused it to who took it.

    ``consumers`` says of each that listens whether it is ``done``, ``pending``, ``retrying``, ``waiting``, ``dead`` or
    ``dropped``. ``occurred_at`` is when that happened for which an entry was posted, unless it is ``at``.
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


class Trace(msgspec.Struct, frozen=True):
    """The whole chain of a task, in the order of the log, from its creation to the mail that told of its money."""

    number: int
    steps: list[TraceLine]


class Schemas(msgspec.Struct, frozen=True):
    """The JSON Schema of every version of every event."""

    schemas: dict[str, dict[str, Any]]


@declare("events list", roles=ADMINS)
class ListEvents(Query[EventPage], frozen=True, kw_only=True):
    """Ask for events after a position; ``type`` is a full type or its middle name."""

    type: str | None = None
    subject: str | None = None
    actor: str | None = None
    after: Count = 0
    limit: Limit | None = None


@declare("events show", roles=ADMINS)
class ShowEvent(Query[EnvelopeDocument], frozen=True, kw_only=True):
    """Ask for one event."""

    event_id: str


@declare("events status", roles=ADMINS)
class ShowBusStatus(Query[BusStatus], frozen=True):
    """Ask how far every consumer has come."""


@declare("events dead", roles=ADMINS)
class ListDeadLetters(Query[DeadLetters], frozen=True):
    """Ask for what is set aside."""


@declare("events retry", roles=ADMINS)
class RetryDeadLetters(Command[RetryResult], frozen=True, kw_only=True):
    """Try one dead letter again and drain what waits behind it; all of them where none is named."""

    dead_id: int | None = None


@declare("events drop", roles=ADMINS)
class DropDeadLetter(Command[DroppedLetter], frozen=True, kw_only=True):
    """Give one dead letter up, for a reason; what waits behind it goes on."""

    dead_id: int
    reason: str


@declare("events replay", roles=ADMINS)
class ReplayEvents(Command[ReplayReport], frozen=True, kw_only=True):
    """Build the read models anew from the log, or only compare."""

    verify: bool = False


@declare("events trace", roles=ADMINS)
class TraceTask(Query[Trace], frozen=True, kw_only=True):
    """Ask for the whole chain of a task."""

    number: int


@declare("events schemas", access=Access.PUBLIC)
class ShowSchemas(Query[Schemas], frozen=True):
    """Ask for the JSON Schema of every event."""


@event("bus", 1, subject_field="event_id")
class DeadLetterRetried(Event, frozen=True, kw_only=True):
    """Somebody had a dead letter tried again; ``done`` where its consumer took it this time."""

    event_id: Id
    consumer: str
    sequence: int
    done: bool


@event("bus", 1, subject_field="consumer")
class ReadModelsRebuilt(Event, frozen=True, kw_only=True):
    """Somebody had the read models of a consumer built anew from so many events."""

    consumer: str
    events: int


@event("bus", 1, subject_field="event_id")
class DeadLetterDropped(Event, frozen=True, kw_only=True):
    """A dead letter was given up; its effects will never be."""

    event_id: Id
    consumer: str
    sequence: int
    reason: str

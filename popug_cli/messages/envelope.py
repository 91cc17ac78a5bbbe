"""The envelope of an event: a CloudEvents 1.0 event in JSON with popug's extensions."""

from collections.abc import Callable
from datetime import date, datetime
from functools import cache, lru_cache
from typing import Any, Generic, TypeVar

import msgspec

from popug_cli.kernel.clock import from_rfc3339
from popug_cli.messages.base import EVENTS, Event
from popug_cli.messages.upcasters import upcast

E_co = TypeVar("E_co", bound=Event, covariant=True)


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """The attributes of CloudEvents, ``sequence`` (log position, decimal), causation, correlation and actor.

    An event of tasks has ``businessdate``, the date that it counts for; see ``tasks/days.py``. An event that sets a
    password has ``passworddigest``, a digest of the stored hash; see ``password_digest`` in ``identity/rules.py``.
    """

    id: str
    source: str
    type: str
    subject: str
    time: str
    data: Any
    sequence: str
    specversion: str
    datacontenttype: str
    dataschema: str
    causationid: str | None = None
    correlationid: str | None = None
    actor: str | None = None
    businessdate: date | None = None
    passworddigest: str | None = None


class EventFields(msgspec.Struct, Generic[E_co], frozen=True):
    """The fields of an envelope that consumers and checks need."""

    id: str
    subject: str
    time: str
    data: E_co
    correlationid: str | None = None
    actor: str | None = None
    businessdate: date | None = None
    passworddigest: str | None = None


class Subject(msgspec.Struct, frozen=True):
    """The ordering key only."""

    subject: str | None = None


class Delivered(msgspec.Struct, Generic[E_co], frozen=True):
    """An event as a consumer receives it: its data in the newest version, and fields of the envelope.

    ``business_date`` is None if the event is not one of tasks, or was published before tasks recorded it.
    """

    sequence: int
    id: str
    subject: str
    time: datetime
    correlation_id: str
    actor: str
    data: E_co
    business_date: date | None = None


_decode_subject = msgspec.json.Decoder(Subject).decode


def decode(sequence: int, type_: str, envelope: str) -> Delivered[Event]:
    """Return the event of a row of the log, upcast to its newest version.

    Raise ``msgspec.ValidationError`` or ``msgspec.DecodeError`` if the row does not fit the schema of its type.
    """
    fields = _decoder_of(type_)(envelope)
    time = _instant(fields.time)
    correlation_id, actor = fields.correlationid or fields.id, fields.actor or "unknown"
    data = upcast(fields.data)
    return Delivered(sequence, fields.id, fields.subject, time, correlation_id, actor, data, fields.businessdate)


@cache
def _decoder_of(type_: str) -> Callable[[str], EventFields[Event]]:
    shape = EVENTS.get(type_)
    if shape is None:
        raise msgspec.ValidationError(f"unknown type {type_}")
    return msgspec.json.Decoder(EventFields[shape]).decode  # type: ignore[valid-type]


def subject_of(sequence: int, envelope: str) -> str:
    """Return the ordering key of a row of the log, or the unique key ``sequence N`` if it has no readable one."""
    try:
        return _decode_subject(envelope).subject or f"sequence {sequence}"
    except msgspec.MsgspecError:
        return f"sequence {sequence}"


@lru_cache(maxsize=1_000)
def _instant(text: str) -> datetime:
    try:
        if datetime.fromisoformat(text).tzinfo is not None:
            return from_rfc3339(text)
    except ValueError:
        pass
    raise msgspec.ValidationError(f"`time` is not a valid RFC 3339 instant: {text!r}")

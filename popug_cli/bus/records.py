"""The records of a topic: make one for an event or a watermark, and parse one that was received.

The format is the CloudEvents Kafka protocol binding 1.0, structured mode: the value is the envelope, byte for byte as
it is stored, and the key is its subject. The headers repeat six attributes as ``ce_…``. The headers ``popug_…`` name
the publisher's log, the position of the event there, and the position and id of the publisher's own event before it.
Watermarks have an empty value; see ``streams.py`` for their meaning.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec

from popug_cli.bus.publisher import MAX_EVENT_BYTES, MAX_POSITION
from popug_cli.kernel.stored_values import InvalidStoredValue

CONTENT_TYPE = "application/cloudevents+json"
CONTENT_TYPE_HEADER = f"{CONTENT_TYPE}; charset=UTF-8"
REPEATED_ATTRIBUTES = ("id", "type", "source", "subject", "time")
POSITION = re.compile("0|[1-9][0-9]{0,18}")
EPOCH = datetime.fromtimestamp(0, UTC)
MAX_TIMESTAMP_MS = 253_402_300_799_999  # the last millisecond of the year 9999
LOG_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Headers = Sequence[tuple[str, bytes | None]]
Position = Annotated[int, msgspec.Meta(ge=0, le=MAX_POSITION)]
ServiceName = Annotated[str, msgspec.Meta(pattern=r"^[a-z]{1,32}\Z")]


class TopicRecord(NamedTuple):
    """A record as a topic stores it.

    ``timestamp_ms`` is the instant at which the broker stored it (``LogAppendTime``), in milliseconds since 1970 by the
    broker's clock; None before that.
    """

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int | None = None


class EventRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the log ``log_id`` at ``position``.

    ``previous`` and ``previous_id`` are the position and the id of the publisher's own event before it; they are 0 and
    empty for its first event.
    """

    log_id: str
    position: int
    id: str
    previous: int
    previous_id: str
    type: str
    subject: str
    envelope: str


class WatermarkRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A watermark: all events of this topic at positions up to ``position`` stand before it.

    ``previous`` and ``previous_id`` are those of the last of these events. ``includes`` has the position up to which
    the publisher had consumed the log of each other service, by the name of the service; None if the watermark does
    not say it. ``stamped_at`` is the instant at which the broker stored it, None if it is not known.
    """

    log_id: str
    position: int
    previous: int
    previous_id: str
    includes: Mapping[str, int] | None = None
    stamped_at: datetime | None = None


class MangledReason(StrEnum):
    """The first fault that makes a record unreadable."""

    NO_HEADERS = "no_headers"
    REPEATED_HEADER = "repeated_header"
    MISSING_HEADER = "missing_header"
    HEADER_NOT_TEXT = "header_not_text"
    INVALID_LOG_ID = "invalid_log_id"
    INVALID_POSITION = "invalid_position"
    INVALID_PREVIOUS = "invalid_previous"
    INVALID_INCLUDES = "invalid_includes"
    WATERMARK_WITH_VALUE = "watermark_with_value"
    NO_VALUE = "no_value"
    WRONG_CONTENT_TYPE = "wrong_content_type"
    VALUE_TOO_LARGE = "value_too_large"
    INVALID_ENVELOPE = "invalid_envelope"
    HEADER_DIFFERS = "header_differs"
    KEY_DIFFERS = "key_differs"


class MangledRecord(msgspec.Struct, frozen=True):
    """A record that is not one of popug's; ``detail`` names the header at fault, or is empty."""

    reason: MangledReason
    detail: str = ""


Record = EventRecord | WatermarkRecord | MangledRecord


class _Attributes(msgspec.Struct, frozen=True):
    id: str
    type: str
    source: str
    subject: str
    time: str
    sequence: str
    specversion: str
    actor: str | None = None


class _Mangled(Exception):
    def __init__(self, reason: MangledReason, detail: str = "") -> None:
        super().__init__(reason)
        self.record = MangledRecord(reason, detail)


_decode_attributes = msgspec.json.Decoder(_Attributes).decode
_decode_includes = msgspec.json.Decoder(dict[ServiceName, Position]).decode
_encode_includes = msgspec.json.Encoder(order="sorted").encode


def make_event_record(log_id: str, position: int, envelope: str, *, previous: int, previous_id: str) -> TopicRecord:
    """Return the record of a stored event of the log ``log_id``.

    Raise ``InvalidStoredValue`` if its receivers could not read it: if the envelope lacks an attribute, names another
    position, or is larger than ``MAX_EVENT_BYTES``.
    """
    value = envelope.encode()
    try:
        attributes = _attributes_of(value)
    except _Mangled as error:
        raise InvalidStoredValue(f"the event at {position} cannot be a record: {error}") from error
    headers = {
        "content-type": CONTENT_TYPE_HEADER,
        **{f"ce_{name}": getattr(attributes, name) for name in REPEATED_ATTRIBUTES},
        **_popug_headers(log_id, previous, previous_id),
        "popug_sequence": str(position),
    }
    record = TopicRecord(attributes.subject.encode(), value, _encoded(headers))
    parsed = parse_record(record)
    if isinstance(parsed, MangledRecord):
        fault = " ".join(filter(None, (parsed.reason, parsed.detail)))
        raise InvalidStoredValue(f"the event at {position} cannot be a record: {fault}")
    return record


def make_watermark_record(watermark: WatermarkRecord) -> TopicRecord:
    """Return the record of a watermark."""
    headers = _popug_headers(watermark.log_id, watermark.previous, watermark.previous_id)
    headers["popug_watermark"] = str(watermark.position)
    if watermark.includes is not None:
        headers["popug_includes"] = _encode_includes(dict(watermark.includes)).decode()
    return TopicRecord(None, b"", _encoded(headers))


def parse_record(record: TopicRecord) -> Record:
    """Return the event or the watermark of a received record, or the reason why it is mangled.

    Headers of other names are ignored.
    """
    try:
        headers = _texts_of(record.headers)
        if "popug_watermark" in headers:
            return _parse_watermark(record, headers)
        return _parse_event(record, headers)
    except _Mangled as error:
        return error.record


def _popug_headers(log_id: str, previous: int, previous_id: str) -> dict[str, str]:
    return {"popug_log": log_id, "popug_previous": str(previous), "popug_previous_id": previous_id}


def _encoded(headers: Mapping[str, str]) -> Headers:
    return [(name, text.encode()) for name, text in headers.items()]


def _parse_watermark(record: TopicRecord, headers: Mapping[str, str]) -> WatermarkRecord:
    log_id = _log_id_in(headers)
    position = _position_in(headers, "popug_watermark")
    previous, previous_id = _previous_in(headers, up_to=position)
    if record.value:
        raise _Mangled(MangledReason.WATERMARK_WITH_VALUE)
    includes = _includes_of(headers["popug_includes"]) if "popug_includes" in headers else None
    return WatermarkRecord(
        log_id=log_id,
        position=position,
        previous=previous,
        previous_id=previous_id,
        includes=includes,
        stamped_at=_instant_of(record.timestamp_ms),
    )


def _parse_event(record: TopicRecord, headers: Mapping[str, str]) -> EventRecord:
    log_id = _log_id_in(headers)
    position = _position_in(headers, "popug_sequence", minimum=1)
    previous, previous_id = _previous_in(headers, up_to=position - 1)
    if _header(headers, "content-type").partition(";")[0].strip().lower() != CONTENT_TYPE:
        raise _Mangled(MangledReason.WRONG_CONTENT_TYPE)
    if not record.value:
        raise _Mangled(MangledReason.NO_VALUE)
    attributes = _attributes_of(record.value)
    for name in REPEATED_ATTRIBUTES:
        if _header(headers, f"ce_{name}") != getattr(attributes, name):
            raise _Mangled(MangledReason.HEADER_DIFFERS, f"ce_{name}")
    if attributes.sequence != str(position):
        raise _Mangled(MangledReason.HEADER_DIFFERS, "popug_sequence")
    if record.key != attributes.subject.encode():
        raise _Mangled(MangledReason.KEY_DIFFERS)
    return EventRecord(
        log_id=log_id,
        position=position,
        id=attributes.id,
        previous=previous,
        previous_id=previous_id,
        type=attributes.type,
        subject=attributes.subject,
        envelope=record.value.decode(),
    )


def _texts_of(headers: Headers | None) -> dict[str, str]:
    """Return the texts of popug's headers by name; those of other programs may be repeated or binary."""
    texts: dict[str, str] = {}
    for name, value in headers or ():
        if name != "content-type" and not name.startswith(("ce_", "popug_")):
            continue
        if name in texts:
            raise _Mangled(MangledReason.REPEATED_HEADER, name)
        try:
            texts[name] = (value or b"").decode()
        except UnicodeDecodeError as error:
            raise _Mangled(MangledReason.HEADER_NOT_TEXT, name) from error
    if not texts:
        raise _Mangled(MangledReason.NO_HEADERS)
    return texts


def _header(headers: Mapping[str, str], name: str) -> str:
    if name not in headers:
        raise _Mangled(MangledReason.MISSING_HEADER, name)
    return headers[name]


def _log_id_in(headers: Mapping[str, str]) -> str:
    log_id = _header(headers, "popug_log")
    if not LOG_ID.fullmatch(log_id):
        raise _Mangled(MangledReason.INVALID_LOG_ID)
    return log_id


def _position_in(headers: Mapping[str, str], name: str, *, minimum: int = 0) -> int:
    text = _header(headers, name)
    if not POSITION.fullmatch(text) or not minimum <= int(text) <= MAX_POSITION:
        raise _Mangled(MangledReason.INVALID_POSITION, name)
    return int(text)


def _previous_in(headers: Mapping[str, str], *, up_to: int) -> tuple[int, str]:
    previous = _position_in(headers, "popug_previous")
    previous_id = _header(headers, "popug_previous_id")
    if previous > up_to or (previous == 0) != (previous_id == ""):
        raise _Mangled(MangledReason.INVALID_PREVIOUS)
    return previous, previous_id


def _instant_of(timestamp_ms: int | None) -> datetime | None:
    """Return the instant of a timestamp, or None if there is none (which Kafka says with -1) or it is not a date."""
    if timestamp_ms is None or not 0 <= timestamp_ms <= MAX_TIMESTAMP_MS:
        return None
    return EPOCH + timedelta(milliseconds=timestamp_ms)


def _includes_of(text: str) -> dict[str, int]:
    try:
        return _decode_includes(text)
    except msgspec.MsgspecError as error:
        raise _Mangled(MangledReason.INVALID_INCLUDES) from error


def _attributes_of(value: bytes) -> _Attributes:
    if len(value) > MAX_EVENT_BYTES:
        raise _Mangled(MangledReason.VALUE_TOO_LARGE)
    try:
        value.decode()  # msgspec does not check the UTF-8 of fields that it skips
        attributes = _decode_attributes(value)
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError) as error:
        raise _Mangled(MangledReason.INVALID_ENVELOPE) from error
    has_nul = any("\0" in text for text in msgspec.structs.astuple(attributes) if text)  # PostgreSQL stores none
    if attributes.specversion != "1.0" or not attributes.id or not attributes.subject or has_nul:
        raise _Mangled(MangledReason.INVALID_ENVELOPE)
    return attributes

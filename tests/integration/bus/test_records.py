"""Records of a topic: events and watermarks survive the way through a topic; each malformed record has its reason."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popug_cli.bus.publisher import MAX_EVENT_BYTES, MAX_POSITION
from popug_cli.bus.records import (
    EventRecord,
    MangledReason,
    MangledRecord,
    TopicRecord,
    WatermarkRecord,
    make_event_record,
    make_watermark_record,
    parse_record,
)
from popug_cli.bus.relay import Claim, OwnEvent, records_of
from popug_cli.kernel.stored_values import InvalidStoredValue

LOG = "0198f3c2-0000-7000-8000-00000000000a"
DATA = '{"title":"Grüße, \\u0000 <&>"}'


def envelope_of(position: int, event_id: str = "e1", *, subject: str = "task ü", data: str = DATA) -> str:
    return (
        f'{{"id":"{event_id}", "source":"/popug/tasks","type":"popug.tasks.task_created.v2","subject":"{subject}",'
        f'"time":"2026-03-02T09:00:00.000000Z","data":{data},"sequence":"{position}","specversion":"1.0","later":[1]}}'
    )


EVENT = make_event_record(LOG, 7, envelope_of(7), previous=3, previous_id="e0")
WATERMARK = make_watermark_record(
    WatermarkRecord(log_id=LOG, position=9, previous=7, previous_id="e1", includes={"tasks": 4, "billing": 0})
)


def changed(record: TopicRecord, **headers: bytes | None) -> TopicRecord:
    """Return the record with some headers replaced or added; a keyword has ``_`` for the ``-`` of content-type."""
    replaced = {name.replace("content_type", "content-type"): value for name, value in headers.items()}
    return record._replace(headers=[*dict([*record.headers, *replaced.items()]).items()])


def without(record: TopicRecord, name: str) -> TopicRecord:
    return record._replace(headers=[header for header in record.headers if header[0] != name])


def test_event_record_has_key_value_and_headers() -> None:
    assert (
        "task ü".encode(),
        envelope_of(7).encode(),
        [
            ("content-type", b"application/cloudevents+json; charset=UTF-8"),
            ("ce_id", b"e1"),
            ("ce_type", b"popug.tasks.task_created.v2"),
            ("ce_source", b"/popug/tasks"),
            ("ce_subject", "task ü".encode()),
            ("ce_time", b"2026-03-02T09:00:00.000000Z"),
            ("popug_log", LOG.encode()),
            ("popug_previous", b"3"),
            ("popug_previous_id", b"e0"),
            ("popug_sequence", b"7"),
        ],
        None,
    ) == EVENT


def test_watermark_record_has_headers_and_no_value() -> None:
    headers = [
        ("popug_log", LOG.encode()),
        ("popug_previous", b"7"),
        ("popug_previous_id", b"e1"),
        ("popug_watermark", b"9"),
        ("popug_includes", b'{"billing":0,"tasks":4}'),
    ]
    assert (None, b"", headers, None) == WATERMARK


def test_event_is_parsed_byte_for_byte() -> None:
    assert parse_record(EVENT) == EventRecord(
        log_id=LOG,
        position=7,
        id="e1",
        previous=3,
        previous_id="e0",
        type="popug.tasks.task_created.v2",
        subject="task ü",
        envelope=envelope_of(7),
    )


def test_first_event_has_no_previous_event() -> None:
    parsed = parse_record(make_event_record(LOG, 1, envelope_of(1), previous=0, previous_id=""))
    assert isinstance(parsed, EventRecord)
    assert (parsed.previous, parsed.previous_id) == (0, "")


@pytest.mark.parametrize("includes", [None, {}, {"tasks": MAX_POSITION}])
@pytest.mark.parametrize("value", [None, b""])
@pytest.mark.parametrize(("previous", "previous_id", "position"), [(0, "", 0), (7, "e1", 7), (7, "e1", MAX_POSITION)])
def test_watermark_is_parsed(
    includes: dict[str, int] | None, value: bytes | None, previous: int, previous_id: str, position: int
) -> None:
    watermark = WatermarkRecord(
        log_id=LOG, position=position, previous=previous, previous_id=previous_id, includes=includes
    )
    record = make_watermark_record(watermark)
    assert record.value == b""
    assert parse_record(record._replace(value=value)) == watermark


def test_headers_of_other_programs_are_ignored() -> None:
    others: list[tuple[str, bytes | None]] = [("traceparent", b"\xff"), ("traceparent", None), ("x", b"")]
    assert parse_record(EVENT._replace(headers=[*others, *reversed(EVENT.headers)])) == parse_record(EVENT)


@pytest.mark.parametrize(
    "content_type", [b"application/cloudevents+json", b"Application/CloudEvents+JSON ;charset=utf-8"]
)
def test_content_type_is_compared_without_parameters(content_type: bytes) -> None:
    assert parse_record(changed(EVENT, content_type=content_type)) == parse_record(EVENT)


def with_value(value: bytes | None) -> TopicRecord:
    return EVENT._replace(value=value)


def edited(old: str, new: str) -> TopicRecord:
    assert old in envelope_of(7)
    return with_value(envelope_of(7).replace(old, new).encode())


R = MangledReason
MANGLED: list[tuple[TopicRecord, MangledReason, str]] = [
    (EVENT._replace(headers=[]), R.NO_HEADERS, ""),
    (EVENT._replace(headers=None), R.NO_HEADERS, ""),  # type: ignore[arg-type]  # as confluent-kafka has it
    (EVENT._replace(headers=[("traceparent", b"0")]), R.NO_HEADERS, ""),
    (EVENT._replace(headers=[*EVENT.headers, ("popug_log", LOG.encode())]), R.REPEATED_HEADER, "popug_log"),
    (EVENT._replace(headers=[*EVENT.headers, ("ce_id", b"e2")]), R.REPEATED_HEADER, "ce_id"),
    *[(without(EVENT, name), R.MISSING_HEADER, name) for name, _ in EVENT.headers],
    *[(without(WATERMARK, name), R.MISSING_HEADER, name) for name, _ in WATERMARK.headers[:3]],
    (without(WATERMARK, "popug_watermark"), R.MISSING_HEADER, "popug_sequence"),
    (changed(EVENT, ce_subject=b"\xff"), R.HEADER_NOT_TEXT, "ce_subject"),
    (changed(EVENT, popug_log=b""), R.INVALID_LOG_ID, ""),
    (changed(EVENT, popug_log=None), R.INVALID_LOG_ID, ""),
    (changed(EVENT, popug_log=LOG.upper().encode()), R.INVALID_LOG_ID, ""),
    (changed(WATERMARK, popug_log=LOG.encode() + b"\n"), R.INVALID_LOG_ID, ""),
    *[
        (changed(EVENT, popug_sequence=text), R.INVALID_POSITION, "popug_sequence")
        for text in (b"", b"0", b"-1", b"+7", b"07", b" 7", b"7\n", "\u0667".encode(), b"1_0", b"9" * 5000, None)
    ],
    (changed(EVENT, popug_sequence=str(MAX_POSITION + 1).encode()), R.INVALID_POSITION, "popug_sequence"),
    (changed(EVENT, popug_previous=b"x"), R.INVALID_POSITION, "popug_previous"),
    (changed(WATERMARK, popug_watermark=b"-9"), R.INVALID_POSITION, "popug_watermark"),
    (changed(EVENT, popug_previous=b"7"), R.INVALID_PREVIOUS, ""),
    (changed(EVENT, popug_previous=b"8"), R.INVALID_PREVIOUS, ""),
    (changed(EVENT, popug_previous=b"0"), R.INVALID_PREVIOUS, ""),
    (changed(EVENT, popug_previous_id=b""), R.INVALID_PREVIOUS, ""),
    (changed(EVENT, popug_previous_id=None), R.INVALID_PREVIOUS, ""),
    (changed(WATERMARK, popug_previous=b"10"), R.INVALID_PREVIOUS, ""),
    *[
        (changed(WATERMARK, popug_includes=text), R.INVALID_INCLUDES, "")
        for text in (
            b"",
            b"{",
            b"[]",
            b"null",
            b'{"tasks":-1}',
            b'{"tasks":"4"}',
            b'{"tasks":9223372036854775808}',
            b'{"":1}',
            b'{"tasks\\n":1}',
            b'{"Tasks":1}',
            b"[" * 100_000,
            b'{"' + b"x" * 33 + b'":1}',
            None,
        )
    ],
    (WATERMARK._replace(value=b" "), R.WATERMARK_WITH_VALUE, ""),
    (changed(EVENT, popug_watermark=b"7"), R.WATERMARK_WITH_VALUE, ""),
    (with_value(b""), R.NO_VALUE, ""),
    (with_value(None), R.NO_VALUE, ""),
    (changed(EVENT, content_type=b"application/json"), R.WRONG_CONTENT_TYPE, ""),
    (with_value(b" " * (MAX_EVENT_BYTES + 1)), R.VALUE_TOO_LARGE, ""),
    (with_value(b"{"), R.INVALID_ENVELOPE, ""),
    (with_value(b"[]"), R.INVALID_ENVELOPE, ""),
    (with_value(envelope_of(7).encode()[:-1]), R.INVALID_ENVELOPE, ""),
    (with_value(envelope_of(7).encode() + b"x"), R.INVALID_ENVELOPE, ""),
    (with_value(envelope_of(7).encode().replace(b"<&>", b"\xff")), R.INVALID_ENVELOPE, ""),
    (with_value(envelope_of(7, data="[" * 100_000 + "]" * 100_000).encode()), R.INVALID_ENVELOPE, ""),
    (edited('"specversion":"1.0"', '"specversion":"2.0"'), R.INVALID_ENVELOPE, ""),
    (edited('"id":"e1", ', ""), R.INVALID_ENVELOPE, ""),
    (edited('"id":"e1"', '"id":""'), R.INVALID_ENVELOPE, ""),
    (edited('"subject":"task ü"', '"subject":""'), R.INVALID_ENVELOPE, ""),
    (edited('"subject":"task ü"', '"subject":7'), R.INVALID_ENVELOPE, ""),
    (edited('"subject":"task ü"', '"subject":"task\\u0000"'), R.INVALID_ENVELOPE, ""),
    (edited('"id":"e1"', '"actor":"a\\u0000","id":"e1"'), R.INVALID_ENVELOPE, ""),
    (edited('"id":"e1"', '"actor":5,"id":"e1"'), R.INVALID_ENVELOPE, ""),
    *[(changed(EVENT, **{name: b"x"}), R.HEADER_DIFFERS, name) for name, _ in EVENT.headers if name.startswith("ce_")],
    (changed(EVENT, popug_sequence=b"8"), R.HEADER_DIFFERS, "popug_sequence"),
    (EVENT._replace(key=None), R.KEY_DIFFERS, ""),
    (EVENT._replace(key=b"task"), R.KEY_DIFFERS, ""),
]  # fmt: skip


@pytest.mark.parametrize(("record", "reason", "detail"), MANGLED)
def test_malformed_record_has_a_reason(record: TopicRecord, reason: MangledReason, detail: str) -> None:
    assert parse_record(record) == MangledRecord(reason, detail)


def test_every_reason_is_covered() -> None:
    assert {reason for _, reason, _ in MANGLED} == set(MangledReason)


NAMES = [name for name, _ in [*EVENT.headers, *WATERMARK.headers]] + ["x"]
BYTES = st.none() | st.binary(max_size=20) | st.sampled_from([LOG.encode(), b"0", b"7", b"e1", b"{}"])


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(NAMES), BYTES)), BYTES, BYTES)
def test_any_bytes_are_parsed(headers: list[tuple[str, bytes | None]], key: bytes | None, value: bytes | None) -> None:
    assert isinstance(parse_record(TopicRecord(key, value, headers)), MangledRecord | WatermarkRecord)


@settings(deadline=None)
@given(st.data())
def test_changed_byte_never_changes_the_decision(data: st.DataObject) -> None:
    """The position and the id that the decision reads cannot be changed in the value alone."""
    assert EVENT.value is not None
    value = bytearray(EVENT.value)
    index = data.draw(st.integers(0, len(value) - 1))
    value[index] = data.draw(st.integers(0, 255))
    parsed, original = parse_record(with_value(bytes(value))), parse_record(EVENT)
    if isinstance(parsed, EventRecord):
        assert msgspec.structs.replace(parsed, envelope=envelope_of(7)) == original
        assert parsed.envelope.encode() == value


REFUSED: list[Callable[[], object]] = [
    lambda: make_event_record(LOG, 8, envelope_of(7), previous=3, previous_id="e0"),
    lambda: make_event_record(LOG, 7, envelope_of(7), previous=7, previous_id="e0"),
    lambda: make_event_record("", 7, envelope_of(7), previous=3, previous_id="e0"),
    lambda: make_event_record(LOG, 7, "{}", previous=3, previous_id="e0"),
    lambda: make_event_record(LOG, 7, envelope_of(7) + " " * MAX_EVENT_BYTES, previous=3, previous_id="e0"),
]


@pytest.mark.parametrize("make", REFUSED)
def test_event_that_nobody_could_read_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidStoredValue, match="cannot be a record: "):
        make()


def test_refusal_names_the_fault() -> None:
    with pytest.raises(InvalidStoredValue) as differs:
        REFUSED[0]()
    assert str(differs.value) == "the event at 8 cannot be a record: header_differs popug_sequence"
    with pytest.raises(InvalidStoredValue) as lacks:
        REFUSED[3]()
    assert str(lacks.value) == "the event at 7 cannot be a record: invalid_envelope"


def test_largest_event_is_a_record() -> None:
    envelope = envelope_of(7).ljust(MAX_EVENT_BYTES - len(envelope_of(7).encode()) + len(envelope_of(7)))
    assert len(envelope.encode()) == MAX_EVENT_BYTES
    assert make_event_record(LOG, 7, envelope, previous=0, previous_id="").value == envelope.encode()
    with pytest.raises(InvalidStoredValue, match="value_too_large"):
        make_event_record(LOG, 7, envelope + " ", previous=0, previous_id="")


# --- claims -------------------------------------------------------------------------------------

OWN = [OwnEvent(position, f"e{position}", envelope_of(position, f"e{position}")) for position in (4, 6)]


def claim_of(events: list[OwnEvent], *, is_drained: bool, head: int) -> Claim:
    return Claim(
        log_id=LOG,
        start=3,
        previous=2,
        previous_id="e2",
        events=events,
        is_drained=is_drained,
        head=head,
        includes={"tasks": 5},
    )


def summary(claim: Claim) -> list[tuple[int, int, str]]:
    parsed = [parse_record(record) for record in records_of(claim)]
    assert all(isinstance(record, EventRecord) for record in parsed[:-1])
    assert isinstance(parsed[-1], WatermarkRecord)
    return [(r.position, r.previous, r.previous_id) for r in parsed if not isinstance(r, MangledRecord)]


def includes_of(claim: Claim) -> object:
    parsed = parse_record(records_of(claim)[-1])
    assert isinstance(parsed, WatermarkRecord)
    return parsed.includes


def test_claim_is_events_then_a_watermark_at_its_head() -> None:
    claim = claim_of(OWN, is_drained=True, head=9)
    assert summary(claim) == [(4, 2, "e2"), (6, 4, "e4"), (9, 6, "e6")]
    assert (claim.end, includes_of(claim)) == (9, {"tasks": 5})


def test_claim_without_events_is_a_watermark_at_its_head() -> None:
    claim = claim_of([], is_drained=True, head=9)
    assert (summary(claim), includes_of(claim)) == ([(9, 2, "e2")], {"tasks": 5})


def test_claim_of_a_part_has_no_includes() -> None:
    claim = claim_of(OWN, is_drained=False, head=9)
    assert summary(claim)[-1] == (6, 6, "e6")
    assert (claim.end, includes_of(claim)) == (6, None)


def test_claim_up_to_the_head_has_includes() -> None:
    assert includes_of(claim_of(OWN, is_drained=False, head=6)) == {"tasks": 5}


@pytest.mark.parametrize(
    ("timestamp_ms", "text"),
    [
        (None, None),
        (-1, None),
        (0, "1970-01-01T00:00:00+00:00"),
        (1_772_442_000_123, "2026-03-02T09:00:00.123000+00:00"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999000+00:00"),
        (253_402_300_800_000, None),
        (2**63 - 1, None),
    ],
)
def test_watermark_has_the_stamp_of_the_broker(timestamp_ms: int | None, text: str | None) -> None:
    parsed = parse_record(WATERMARK._replace(timestamp_ms=timestamp_ms))
    assert isinstance(parsed, WatermarkRecord)
    assert (parsed.stamped_at.isoformat() if parsed.stamped_at else None) == text

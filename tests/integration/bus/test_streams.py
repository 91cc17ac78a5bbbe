"""The decision for one record, row by row of the table in decision record 0065."""

from datetime import UTC, datetime, timedelta

import pytest

from popug_cli.bus.records import EventRecord, MangledReason, MangledRecord, Record, WatermarkRecord
from popug_cli.bus.streams import ChangeReason, Decision, HistoryChange, StreamState, StreamVerdict, decide

LOG, OTHER_LOG = "log-a", "log-b"
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
EARLIER = NOW - timedelta(seconds=30)
EMPTY = StreamState(log_id=LOG)
STATE = StreamState(
    log_id=LOG, last=10, last_id="e10", watermark=12, includes={"tasks": 5}, includes_watermark=12, mangled_count=1
)


def event(position: int, previous: int, *, event_id: str = "", previous_id: str = "", log_id: str = LOG) -> EventRecord:
    """Return an event whose ids derive from its positions, unless they are given."""
    return EventRecord(
        log_id=log_id,
        position=position,
        id=event_id or f"e{position}",
        previous=previous,
        previous_id=previous_id or (f"e{previous}" if previous else ""),
        type="t",
        subject="s",
        envelope="{}",
    )


def watermark(
    position: int,
    previous: int,
    *,
    previous_id: str = "",
    includes: dict[str, int] | None = None,
    log_id: str = LOG,
    stamped_at: datetime | None = None,
) -> WatermarkRecord:
    return WatermarkRecord(
        log_id=log_id,
        position=position,
        previous=previous,
        previous_id=previous_id or (f"e{previous}" if previous else ""),
        includes=includes,
        stamped_at=stamped_at,
    )


def decided(state: StreamState, record: Record, stored_id: str | None = None) -> Decision:
    return decide(state, record, stored_id=stored_id, now=NOW)


def changed(state: StreamState, **fields: object) -> StreamState:
    return StreamState(**{name: getattr(state, name) for name in state.__struct_fields__} | fields)


# --- ignored ------------------------------------------------------------------------------------


def test_mangled_record_is_counted() -> None:
    record = MangledRecord(MangledReason.NO_HEADERS)
    assert decided(STATE, record) == (StreamVerdict.IGNORED, changed(STATE, mangled_count=2))


@pytest.mark.parametrize(
    "record",
    [
        event(11, 10, log_id=OTHER_LOG),
        event(12, 11, log_id=OTHER_LOG),
        event(10, 9, event_id="x", log_id=OTHER_LOG),
        watermark(13, 10, log_id=OTHER_LOG),
        watermark(13, 10, previous_id="x", log_id=OTHER_LOG),
    ],
)
def test_record_of_another_log_is_counted(record: Record) -> None:
    once = changed(STATE, other_log_count=1)
    assert decided(STATE, record) == (StreamVerdict.IGNORED, once)
    assert decided(once, record) == (StreamVerdict.IGNORED, changed(STATE, other_log_count=2))


def test_record_never_gives_a_stream_its_log() -> None:
    assert decided(StreamState(log_id=""), event(1, 0)).verdict is StreamVerdict.IGNORED


# --- events -------------------------------------------------------------------------------------


def test_first_event_is_accepted() -> None:
    assert decided(EMPTY, event(3, 0)) == (StreamVerdict.ACCEPTED, changed(EMPTY, last=3, last_id="e3"))


@pytest.mark.parametrize("position", [11, 15])
def test_next_event_is_accepted(position: int) -> None:
    accepted = changed(STATE, last=position, last_id=f"e{position}")
    assert decided(changed(STATE, gap_since=EARLIER), event(position, 10)) == (StreamVerdict.ACCEPTED, accepted)


def test_next_event_after_another_id_changes_history() -> None:
    change = HistoryChange(reason=ChangeReason.OTHER_PREVIOUS_ID, position=10, held_id="e10", its_id="x", found_at=NOW)
    expected = (StreamVerdict.HISTORY_CHANGED, changed(STATE, history_change=change))
    assert decided(STATE, event(11, 10, previous_id="x")) == expected
    assert decided(STATE, watermark(10, 10, previous_id="x")) == expected


@pytest.mark.parametrize("record", [event(12, 11), event(99, 50), watermark(11, 11), watermark(20, 11)])
def test_record_beyond_a_missing_event_is_a_gap(record: Record) -> None:
    assert decided(STATE, record) == (StreamVerdict.GAP, changed(STATE, gap_since=NOW))


def test_gap_keeps_the_instant_of_its_first_record() -> None:
    state = changed(STATE, gap_since=EARLIER)
    assert decided(state, event(12, 11)) == (StreamVerdict.GAP, state)


def test_gap_in_an_empty_stream() -> None:
    assert decided(EMPTY, event(2, 1)) == (StreamVerdict.GAP, changed(EMPTY, gap_since=NOW))


@pytest.mark.parametrize(
    ("record", "stored_id"),
    [(event(10, 9), "e10"), (event(10, 9), None), (event(7, 6), "e7"), (event(7, 6), None), (event(1, 0), "e1")],
)
def test_known_event_is_a_duplicate(record: Record, stored_id: str | None) -> None:
    state = changed(STATE, gap_since=EARLIER)
    assert decided(state, record, stored_id) == (StreamVerdict.DUPLICATE, state)


@pytest.mark.parametrize(("position", "stored_id", "held_id"), [(7, "e7", "e7"), (10, None, "e10"), (10, "e10", "e10")])
def test_known_position_with_another_id_changes_history(position: int, stored_id: str | None, held_id: str) -> None:
    """The last event is known by the stream itself, also if it is not stored for want of a subscription."""
    verdict, state = decided(STATE, event(position, 6, event_id="x"), stored_id)
    change = HistoryChange(reason=ChangeReason.OTHER_ID, position=position, held_id=held_id, its_id="x", found_at=NOW)
    assert (verdict, state) == (StreamVerdict.HISTORY_CHANGED, changed(STATE, history_change=change))


@pytest.mark.parametrize(
    "record", [event(11, 9), event(11, 0), event(20, 9), watermark(10, 9), watermark(11, 9), watermark(10, 0)]
)
def test_record_around_the_last_event_changes_history(record: Record) -> None:
    change = HistoryChange(reason=ChangeReason.LAST_MISSING, position=10, held_id="e10", its_id="", found_at=NOW)
    assert decided(STATE, record) == (StreamVerdict.HISTORY_CHANGED, changed(STATE, history_change=change))


@pytest.mark.parametrize(
    "record",
    [
        event(11, 10),
        event(11, 9),
        event(12, 11),
        event(10, 9),
        event(11, 10, log_id=OTHER_LOG),
        watermark(13, 10),
        MangledRecord(MangledReason.NO_HEADERS),
    ],
)
def test_stream_takes_nothing_after_its_history_changed(record: Record) -> None:
    stopped = decided(STATE, event(11, 9)).state
    assert decided(stopped, record, "other") == (StreamVerdict.STOPPED, stopped)


# --- watermarks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [13, 500])
def test_watermark_is_raised(position: int) -> None:
    """A gap stays: only an event fills it."""
    state = changed(STATE, gap_since=EARLIER)
    assert decided(state, watermark(position, 10)) == (StreamVerdict.WATERMARK, changed(state, watermark=position))


def test_watermark_of_an_empty_log_is_raised() -> None:
    raised = changed(EMPTY, watermark=4, includes={"tasks": 1}, includes_watermark=4)
    assert decided(EMPTY, watermark(4, 0, includes={"tasks": 1})) == (StreamVerdict.WATERMARK, raised)


@pytest.mark.parametrize("position", [10, 11, 12])
@pytest.mark.parametrize("includes", [None, {}])
def test_lower_watermark_lowers_nothing(position: int, includes: dict[str, int] | None) -> None:
    assert decided(STATE, watermark(position, 10, includes=includes)) == (StreamVerdict.WATERMARK, STATE)


@pytest.mark.parametrize("record", [watermark(9, 9), watermark(9, 8), watermark(9, 0), watermark(0, 0)])
def test_watermark_from_before_the_last_event_is_late(record: Record) -> None:
    assert decided(STATE, record) == (StreamVerdict.LATE, STATE)


def test_includes_are_those_of_the_highest_watermark() -> None:
    raised = changed(STATE, watermark=13, includes={"tasks": 7, "mail": 1}, includes_watermark=13)
    assert decided(STATE, watermark(13, 10, includes={"tasks": 7, "mail": 1})).state == raised
    assert decided(STATE, watermark(11, 10, includes={"tasks": 99})).state == STATE


def test_includes_at_the_same_watermark_are_the_greatest() -> None:
    state = changed(STATE, includes={"tasks": 5, "identity": 3, "analytics": 0})
    includes = {"tasks": 4, "identity": 6, "mail": 1}
    merged = changed(STATE, includes={"tasks": 5, "identity": 6, "mail": 1, "analytics": 0})
    assert decided(state, watermark(12, 10, includes=includes)).state == merged


def test_includes_do_not_fall_with_a_higher_watermark() -> None:
    state = changed(STATE, includes={"tasks": 5, "identity": 3})
    later = changed(STATE, watermark=13, includes={"tasks": 6, "identity": 3}, includes_watermark=13)
    assert decided(state, watermark(13, 10, includes={"tasks": 6, "identity": 0})).state == later
    assert decided(state, watermark(13, 10, includes={"tasks": 6})).state == later


def test_includes_stay_when_a_higher_watermark_has_none() -> None:
    raised = changed(STATE, watermark=20)
    assert decided(STATE, watermark(20, 10)).state == raised
    later = changed(raised, includes={"tasks": 6}, includes_watermark=13)
    assert decided(raised, watermark(13, 10, includes={"tasks": 6})).state == later


# --- what an operator sees, and a restore -----------------------------------------------------------


@pytest.mark.parametrize(("seconds", "is_overdue"), [(0, False), (60, False), (61, True)])
def test_gap_is_overdue_after_a_minute(seconds: int, is_overdue: bool) -> None:
    assert changed(STATE, gap_since=NOW).has_overdue_gap(NOW + timedelta(seconds=seconds)) is is_overdue
    assert not STATE.has_overdue_gap(NOW + timedelta(seconds=seconds))


def test_restore_keeps_the_accepted_events_only() -> None:
    stopped = decided(changed(STATE, gap_since=EARLIER, other_log_count=3), event(11, 9)).state
    restored = stopped.with_log_id(OTHER_LOG)
    assert restored == StreamState(log_id=OTHER_LOG, last=10, last_id="e10")
    assert decided(restored, event(11, 10)).verdict is StreamVerdict.IGNORED
    assert decided(restored, event(11, 10, log_id=OTHER_LOG)).verdict is StreamVerdict.ACCEPTED


# --- the broker's stamps --------------------------------------------------------------------------

FUTURE = NOW + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("held", "position", "stamp", "expected"),
    [
        (None, 12, EARLIER, EARLIER),
        (None, 12, None, None),
        (None, 11, NOW, None),
        (EARLIER, 12, NOW, NOW),
        (NOW, 12, EARLIER, NOW),
        (NOW, 13, EARLIER, EARLIER),
        (EARLIER, 13, NOW, NOW),
        (EARLIER, 11, NOW, EARLIER),
        (EARLIER, 13, None, EARLIER),
        (EARLIER, 12, FUTURE, FUTURE),
        (FUTURE, 12, EARLIER, EARLIER),
        (FUTURE, 11, EARLIER, FUTURE),
        (FUTURE, 12, None, FUTURE),
    ],
)
def test_stamp_is_the_newest_of_the_highest_watermark(
    held: datetime | None, position: int, stamp: datetime | None, expected: datetime | None
) -> None:
    state = changed(STATE, stamped_at=held)
    after = changed(state, watermark=max(12, position), stamped_at=expected)
    assert decided(state, watermark(position, 10, stamped_at=stamp)) == (StreamVerdict.WATERMARK, after)


def test_stamp_of_a_refused_watermark_says_nothing() -> None:
    state = changed(STATE, stamped_at=EARLIER)
    for record in (watermark(20, 11, stamped_at=NOW), watermark(9, 9, stamped_at=NOW)):
        assert decided(state, record).state.stamped_at == EARLIER


def test_new_log_id_forgets_the_stamp() -> None:
    assert changed(STATE, stamped_at=NOW).with_log_id(OTHER_LOG).stamped_at is None

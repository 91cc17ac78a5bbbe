"""The decision of a receiver for one record of a stream: a pure function of the stream's state and the record.

A stream is what a service receives of one publisher's log. The topic may repeat records, reorder them and lose them,
and several relays may send at the same time. Each record names the publisher's own event before it (``previous`` and
``previous_id``), and that depends on the publisher's log alone. So the receiver accepts an event only if it has
accepted all own events before it, and holds a prefix of one history at any time.

A watermark says that all events of the topic up to a position stand before it. It raises the position up to which the
receiver knows that it holds everything, also if the publisher's last positions are events of other services.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

import msgspec

from popug_cli.bus.records import EventRecord, MangledRecord, Record, WatermarkRecord

MAX_GAP_SECONDS = 60


class StreamVerdict(StrEnum):
    """The decision of the receiver on a record."""

    ACCEPTED = "accepted"
    """It is the next event: the receiver stores it, if it subscribes to its name."""

    WATERMARK = "watermark"
    """It is a watermark, and the receiver has accepted all events before it."""

    DUPLICATE = "duplicate"
    """It is an event that the receiver has accepted before."""

    LATE = "late"
    """It is a watermark from before the last accepted event."""

    GAP = "gap"
    """At least one event before it is missing; it is dropped, and has to be sent again."""

    IGNORED = "ignored"
    """It is mangled, or a record of another log; it is counted."""

    HISTORY_CHANGED = "history_changed"
    """The publisher's log contradicts the accepted events; from now on the stream takes nothing."""

    STOPPED = "stopped"
    """The history changed before this record; it is dropped and not examined."""


class ChangeReason(StrEnum):
    """How a record contradicts the accepted events."""

    OTHER_ID = "other_id"
    """The publisher has another event at the position of an accepted one."""

    OTHER_PREVIOUS_ID = "other_previous_id"
    """The publisher has another event at the position of the last accepted one."""

    LAST_MISSING = "last_missing"
    """The publisher has no event at the position of the last accepted one."""


class HistoryChange(msgspec.Struct, frozen=True, kw_only=True):
    """Why a stream takes nothing more: two histories have different events at ``position``.

    ``held_id`` is the id that the receiver has there, and ``its_id`` the publisher's, or empty if it has none.
    """

    reason: ChangeReason
    position: int
    held_id: str
    its_id: str
    found_at: datetime


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a stream at its receiver.

    ``log_id`` is the id of the publisher's log; it is set when a service is created or restored, never by a record.
    ``last`` and ``last_id`` are the position and the id of the last accepted event, 0 and empty before the first.
    ``includes`` has the greatest positions of the watermarks up to ``includes_watermark``; it is true of a consumer
    that has consumed the stream up to there. ``gap_since`` is the instant at which a gap was noticed that no event has
    filled since. ``stamped_at`` is the newest instant at which the broker stored a watermark at ``watermark``, by the
    broker's clock.
    """

    log_id: str
    last: int = 0
    last_id: str = ""
    watermark: int = 0
    stamped_at: datetime | None = None
    includes: Mapping[str, int] = {}
    includes_watermark: int = 0
    gap_since: datetime | None = None
    mangled_count: int = 0
    other_log_count: int = 0
    history_change: HistoryChange | None = None

    def has_overdue_gap(self, now: datetime) -> bool:
        """Return whether a gap is older than ``MAX_GAP_SECONDS``, so that the operator has to know it."""
        return self.gap_since is not None and now - self.gap_since > timedelta(seconds=MAX_GAP_SECONDS)

    def with_log_id(self, log_id: str) -> "StreamState":
        """Return the state after a restore: the accepted events stay, and everything said about the old log is void."""
        return StreamState(log_id=log_id, last=self.last, last_id=self.last_id)


class Decision(NamedTuple):
    """The verdict on a record, and the state of the stream after it."""

    verdict: StreamVerdict
    state: StreamState


def decide(state: StreamState, record: Record, *, stored_id: str | None, now: datetime) -> Decision:
    """Return the verdict on a record and the new state.

    ``stored_id`` is the id of the event of this stream that is stored at the record's position, or None if none is:
    events of names without a subscription are not stored.
    """
    if state.history_change is not None:
        return Decision(StreamVerdict.STOPPED, state)
    if isinstance(record, MangledRecord):
        return _replace(state, StreamVerdict.IGNORED, mangled_count=state.mangled_count + 1)
    if record.log_id != state.log_id:
        return _replace(state, StreamVerdict.IGNORED, other_log_count=state.other_log_count + 1)
    if isinstance(record, EventRecord) and record.position <= state.last:
        return _decide_known_position(state, record, stored_id, now)
    return _decide_by_previous(state, record, now)


def _decide_by_previous(state: StreamState, record: EventRecord | WatermarkRecord, now: datetime) -> Decision:
    if record.previous > state.last:
        return _replace(state, StreamVerdict.GAP, gap_since=state.gap_since or now)
    if record.previous < state.last:
        return _decide_earlier_previous(state, record, now)
    if record.previous_id != state.last_id:
        return _history_changed(state, ChangeReason.OTHER_PREVIOUS_ID, record.previous_id, now)
    if isinstance(record, WatermarkRecord):
        return _raise_watermark(state, record, now)
    return _replace(state, StreamVerdict.ACCEPTED, last=record.position, last_id=record.id, gap_since=None)


def _decide_known_position(state: StreamState, record: EventRecord, stored_id: str | None, now: datetime) -> Decision:
    held_id = state.last_id if record.position == state.last else stored_id
    if held_id is None or held_id == record.id:
        return Decision(StreamVerdict.DUPLICATE, state)
    return _history_changed(state, ChangeReason.OTHER_ID, record.id, now, position=record.position, held_id=held_id)


def _decide_earlier_previous(state: StreamState, record: EventRecord | WatermarkRecord, now: datetime) -> Decision:
    """Decide on a record whose previous event comes before the last accepted one.

    The record is at or after the position of that event, unless it is a watermark from before it.
    """
    if isinstance(record, WatermarkRecord) and record.position < state.last:
        return Decision(StreamVerdict.LATE, state)
    return _history_changed(state, ChangeReason.LAST_MISSING, "", now)


def _raise_watermark(state: StreamState, record: WatermarkRecord, now: datetime) -> Decision:
    stamped_at = _newest_stamp(state, record, now)
    state = msgspec.structs.replace(state, watermark=max(state.watermark, record.position), stamped_at=stamped_at)
    if record.includes is None or record.position < state.includes_watermark:
        return Decision(StreamVerdict.WATERMARK, state)
    includes = dict(record.includes)
    for service, position in state.includes.items():  # a publisher may say less while its consumers run
        includes[service] = max(position, includes.get(service, 0))
    return _replace(state, StreamVerdict.WATERMARK, includes=includes, includes_watermark=record.position)


def _newest_stamp(state: StreamState, record: WatermarkRecord, now: datetime) -> datetime | None:
    """Return the stamp of the highest watermark: the newest of several, but none later than now if there is another.

    The stamp of a lower watermark says nothing, because a relay that woke up late may have sent it.
    """
    if record.stamped_at is None or record.position < state.watermark:
        return state.stamped_at
    if state.stamped_at is None or record.position > state.watermark or state.stamped_at > now:
        return record.stamped_at
    return max(state.stamped_at, record.stamped_at)


def _history_changed(
    state: StreamState,
    reason: ChangeReason,
    its_id: str,
    now: datetime,
    *,
    position: int | None = None,
    held_id: str | None = None,
) -> Decision:
    """Stop the stream; without ``position`` and ``held_id``, the last accepted event is the one contradicted."""
    change = HistoryChange(
        reason=reason,
        position=state.last if position is None else position,
        held_id=state.last_id if held_id is None else held_id,
        its_id=its_id,
        found_at=now,
    )
    return _replace(state, StreamVerdict.HISTORY_CHANGED, history_change=change)


def _replace(state: StreamState, verdict: StreamVerdict, **changes: object) -> Decision:
    return Decision(verdict, msgspec.structs.replace(state, **changes))

"""The relay: claim the own events that the topic lacks, make their records, and advance when all are acknowledged.

The records depend on the claim alone, and the claim on the log. So relays that run at the same time send the same
records for an event, and a relay that stops before ``advance`` sends them again.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from popug_cli.bus.context import Context
from popug_cli.bus.records import TopicRecord, WatermarkRecord, make_event_record, make_watermark_record
from popug_cli.bus.stream_store import not_a_service

MAX_CLAIM_EVENTS = 5_000
IS_OWN = "NOT EXISTS (SELECT 1 FROM bus_received received WHERE received.sequence = bus_log.sequence)"
SELECT_NEXT_OWN = f"""
    SELECT sequence, id, envelope FROM bus_log WHERE sequence > ? AND {IS_OWN} ORDER BY sequence LIMIT ?
"""
SELECT_PREVIOUS_OWN = f"""
    SELECT sequence, id FROM bus_log WHERE sequence <= ? AND {IS_OWN} ORDER BY sequence DESC LIMIT 1
"""


class OwnEvent(NamedTuple):
    """A stored event of the publisher's own, at its position."""

    position: int
    id: str
    envelope: str


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The own events that a relay reads in one snapshot, and their place in the log.

    The topic has everything up to ``start``. ``events`` are the next own events in log order, and ``is_drained`` says
    that the snapshot has no others after them. ``previous`` and ``previous_id`` are those of the last own event up to
    ``start``, 0 and empty if there is none. ``head`` is the position of the last event of the log, of any origin.
    ``includes`` is the position up to which the publisher has consumed the log of each other service.
    """

    log_id: str
    start: int
    previous: int
    previous_id: str
    events: Sequence[OwnEvent]
    is_drained: bool
    head: int
    includes: Mapping[str, int]

    @property
    def end(self) -> int:
        """The position up to which the relay has sent everything after it has sent this claim."""
        return self.head if self.is_drained or not self.events else self.events[-1].position


def records_of(claim: Claim) -> list[TopicRecord]:
    """Return the records of the claimed events, then a watermark at the end of the claim.

    Only a watermark at the head may have ``includes``: the events that follow from what the publisher has consumed may
    be anywhere up to the head. Raise ``InvalidStoredValue`` if an event cannot be a record.
    """
    records = []
    previous, previous_id = claim.previous, claim.previous_id
    for position, event_id, envelope in claim.events:
        records.append(make_event_record(claim.log_id, position, envelope, previous=previous, previous_id=previous_id))
        previous, previous_id = position, event_id
    watermark = WatermarkRecord(
        log_id=claim.log_id,
        position=claim.end,
        previous=previous,
        previous_id=previous_id,
        includes=claim.includes if claim.end == claim.head else None,
    )
    return [*records, make_watermark_record(watermark)]


def claim(context: Context, includes: Mapping[str, int], limit: int = MAX_CLAIM_EVENTS) -> Claim:
    """Return what the relay has to send next, at most ``limit`` events, and store the head of the log as claimed.

    The write proves that all events before the head are committed where this transaction is: on the standby as well.
    Raise ``not_a_service``.
    """
    connection = context.connection
    row = connection.select_one("SELECT log_id, position FROM bus_relay")
    if row is None:
        raise not_a_service("it has no log id")
    log_id, start = row
    head = context.log.last_position()
    connection.execute("UPDATE bus_relay SET claimed = ?", head)
    events = [OwnEvent(*row) for row in connection.select(SELECT_NEXT_OWN, start, limit)]
    previous, previous_id = connection.select_one(SELECT_PREVIOUS_OWN, start) or (0, "")
    return Claim(
        log_id=log_id,
        start=start,
        previous=previous,
        previous_id=previous_id,
        events=events,
        is_drained=len(events) < limit,
        head=head,
        includes=includes,
    )


def advance(context: Context, sent: Claim) -> None:
    """Store that the topic has the records of a claim, unless the position has been set back or moved since."""
    context.connection.execute("UPDATE bus_relay SET position = ? WHERE position = ?", sent.end, sent.start)

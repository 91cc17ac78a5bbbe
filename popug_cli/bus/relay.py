"""The records that a relay sends for one claim, which is what one snapshot of the publisher's log says.

They depend on the claim alone. So relays that run at the same time send the same records for an event.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from popug_cli.bus.records import TopicRecord, WatermarkRecord, make_event_record, make_watermark_record

MAX_CLAIM_EVENTS = 5_000


class OwnEvent(NamedTuple):
    """A stored event of the publisher's own, at its position."""

    position: int
    id: str
    envelope: str


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a relay reads in one snapshot.

    ``events`` are the next own events in log order, and ``is_drained`` says that the snapshot has no more of them.
    ``previous`` and ``previous_id`` are those of the own event before the first, 0 and empty if there is none. ``head``
    is the position of the last event of the log, of any origin. ``includes`` is the position up to which the publisher
    has consumed the log of each other service.
    """

    log_id: str
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

"""The relay: claim a service's own events that its topic lacks, make records, advance when all are acknowledged.

The records depend on the claim alone, and the claim on the log. So relays that run at the same time send the same
records for an event, and a relay that stops before ``advance`` sends them again.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from popug_cli.bus.context import Context
from popug_cli.bus.records import TopicRecord, WatermarkRecord, make_event_record, make_watermark_record
from popug_cli.bus.stream_store import Relay, load_relay, not_a_service
from popug_cli.kernel.errors import Conflict
from popug_cli.storage.port import Connection

MAX_CLAIM_EVENTS = 5_000
IS_OWN = "NOT EXISTS (SELECT 1 FROM bus_received received WHERE received.sequence = bus_log.sequence)"
SELECT_NEXT_OWN = f"""
    SELECT sequence, id, envelope FROM bus_log WHERE sequence > ? AND {IS_OWN} ORDER BY sequence LIMIT ?
"""
SELECT_PREVIOUS_OWN = f"""
    SELECT sequence, id FROM bus_log WHERE sequence <= ? AND {IS_OWN} ORDER BY sequence DESC LIMIT 1
"""


class OwnEvent(NamedTuple):
    """An event that this service published, at its position."""

    position: int
    id: str
    envelope: str


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The own events that a relay reads in one snapshot, and their place in the log.

    The topic has everything up to ``start``. ``events`` are the next own events in log order, and ``is_drained`` says
    that the snapshot has no others after them. ``previous`` and ``previous_id`` are those of the last own event up to
    ``start``, 0 and empty if there is none. ``head`` is the position of the last event of the log, of any origin.
    ``includes`` is the position up to which the publisher has consumed the log of each other service. ``reached`` is
    the position up to which the topic has had everything before the relay was set back, and ``last_sent`` the position
    and the id of the last own event up to there.
    """

    log_id: str
    start: int
    previous: int
    previous_id: str
    events: Sequence[OwnEvent]
    is_drained: bool
    head: int
    includes: Mapping[str, int]
    reached: int = 0
    last_sent: tuple[int, str] = (0, "")

    @property
    def end(self) -> int:
        """The position up to which the relay has sent everything after it has sent this claim."""
        return self.head if self.is_drained or not self.events else self.events[-1].position


def records_of(claim: Claim) -> list[TopicRecord]:
    """Return the records of the claimed events, then a watermark at the end of the claim.

    While the relay sends events again, another watermark comes before that one, at the position that the relay had
    reached. So receivers that have everything know that the publisher is alive. Only a watermark at the head may have
    ``includes``: the events that follow from what the publisher has consumed may be anywhere up to the head. Raise
    ``InvalidStoredValue`` if an event cannot be a record.
    """
    records = []
    previous, previous_id = claim.previous, claim.previous_id
    for position, event_id, envelope in claim.events:
        records.append(make_event_record(claim.log_id, position, envelope, previous=previous, previous_id=previous_id))
        previous, previous_id = position, event_id
    if claim.reached > claim.end:
        records.append(_watermark_reached(claim))
    watermark = WatermarkRecord(
        log_id=claim.log_id,
        position=claim.end,
        previous=previous,
        previous_id=previous_id,
        includes=claim.includes if claim.end == claim.head else None,
    )
    return [*records, make_watermark_record(watermark)]


def _watermark_reached(claim: Claim) -> TopicRecord:
    """Return the watermark at the position that the relay had reached before it was set back."""
    previous, previous_id = claim.last_sent
    watermark = WatermarkRecord(
        log_id=claim.log_id,
        position=claim.reached,
        previous=previous,
        previous_id=previous_id,
        includes=claim.includes if claim.reached == claim.head else None,
    )
    return make_watermark_record(watermark)


def claim(context: Context, includes: Mapping[str, int], limit: int = MAX_CLAIM_EVENTS) -> Claim:
    """Return what the relay has to send next, at most ``limit`` events, and store the head of the log as claimed.

    The commit of this write waits for a synchronous standby, so a failover loses no event that is then sent.
    Raise ``not_a_service``, or ``two_publishers`` if the topic has a record of this log that the log lacks.
    """
    connection = context.connection
    relay = load_relay(connection)
    if relay is None:
        raise not_a_service("it has no log id")
    if relay.stranger is not None:
        raise two_publishers(relay)
    start = relay.position
    head = context.log.last_position()
    connection.execute("UPDATE bus_relay SET claimed = ?", head)
    events = [OwnEvent(*row) for row in connection.select(SELECT_NEXT_OWN, start, limit)]
    previous, previous_id = last_own(connection, start)
    return Claim(
        log_id=relay.log_id,
        start=start,
        previous=previous,
        previous_id=previous_id,
        events=events,
        is_drained=len(events) < limit,
        head=head,
        includes=includes,
        reached=relay.reached,
        last_sent=last_own(connection, relay.reached) if relay.reached > start else (0, ""),
    )


def advance(context: Context, sent: Claim) -> None:
    """Store that the topic has the records of a claim, unless the position has been set back or moved since."""
    statement = (
        "UPDATE bus_relay SET position = :end, reached = CASE WHEN reached < :end THEN :end ELSE reached END"
        " WHERE position = :start"
    )
    context.connection.execute(statement, end=sent.end, start=sent.start)


def two_publishers(relay: Relay) -> Conflict:
    """Return the error for a service whose topic has a record of its own log that the log lacks."""
    return Conflict(
        "two_publishers",
        f"Another database publishes as {relay.service}, or this one has lost events: the topic has a record of this"
        f" log that the log lacks ({relay.stranger}). So {relay.service} sends nothing more.",
        hint="Stop the other one. If this one has lost events, restore all services from one backup.",
        details={"service": relay.service},
    )


def last_own(connection: Connection, position: int) -> tuple[int, str]:
    """Return the position and the id of the last own event up to a position, or 0 and an empty text."""
    row = connection.select_one(SELECT_PREVIOUS_OWN, position)
    return (row[0], row[1]) if row else (0, "")

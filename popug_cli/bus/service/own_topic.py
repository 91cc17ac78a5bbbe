"""Read a service's own topic back, to find out whether another database publishes as the same service.

That may be a copy for tests with the settings of production. Its events would mix with those of this log at the
receivers. Each record with this log's id must be of an event that the log has: a relay sends committed events only.
"""

from collections.abc import Sequence

import msgspec

from popug_cli.bus.context import Context
from popug_cli.bus.records import EventRecord, MangledRecord, TopicRecord, WatermarkRecord, parse_record
from popug_cli.bus.relay import last_own
from popug_cli.bus.service.restore import SELECT_OWN_ID, require_relay
from popug_cli.kernel.log import LOG


class Stranger(msgspec.Struct, frozen=True):
    """A record at ``offset`` of the service's own topic that has the id of its log, but an event that the log lacks.

    ``id`` is that of its event or, for a watermark, of the event before it.
    """

    offset: int
    position: int
    id: str


def read_back(context: Context, records: Sequence[tuple[int, TopicRecord]]) -> Stranger | None:
    """Check records of the own topic, given with their offsets; return the first that is not of this log, or None.

    It is stored: from then on, ``relay.claim`` refuses, and no further record is checked. Raise ``not_a_service``.
    """
    relay = require_relay(context)
    if relay.stranger is not None:
        return msgspec.json.decode(relay.stranger, type=Stranger)
    stranger, next_offset = None, relay.own_offset
    for offset, topic_record in records:
        next_offset = offset + 1
        record = parse_record(topic_record)
        if isinstance(record, MangledRecord) or record.log_id != relay.log_id:
            continue  # from before a restore, or of another program
        if not _is_in_log(context, record):
            event_id = record.id if isinstance(record, EventRecord) else record.previous_id
            stranger = Stranger(offset, record.position, event_id)
            LOG.error("The own topic has a record at offset %d that is not of this log; nothing is sent.", offset)
            break
    stored = msgspec.json.encode(stranger).decode() if stranger else None
    context.connection.execute("UPDATE bus_relay SET own_offset = ?, stranger = ?", next_offset, stored)
    return stranger


def _is_in_log(context: Context, record: EventRecord | WatermarkRecord) -> bool:
    """Return whether a relay of this log would send the record; the log may have grown since."""
    if isinstance(record, WatermarkRecord):
        is_known, before = record.position <= context.position, record.position
    else:
        is_known = context.connection.scalar(SELECT_OWN_ID, record.position) == record.id
        before = record.position - 1
    return is_known and last_own(context.connection, before) == (record.previous, record.previous_id)

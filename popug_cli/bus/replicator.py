"""Take records of another service's topic into the local log: effects and offset in one transaction."""

from collections import Counter
from collections.abc import Collection, Sequence

from popug_cli.bus import stream_store
from popug_cli.bus.context import Context
from popug_cli.bus.records import EventRecord, MangledRecord, Record, TopicRecord, parse_record
from popug_cli.bus.stream_store import Stream
from popug_cli.bus.streams import StreamVerdict, decide
from popug_cli.kernel.log import LOG


def take(
    context: Context, origin: str, records: Sequence[tuple[int, TopicRecord]], subscriptions: Collection[str]
) -> Counter[StreamVerdict]:
    """Decide on records with their offsets, append the accepted ones to the log, and store the state of the stream.

    ``subscriptions`` are names of events, such as ``popug.tasks.task_created``, of any version; the accepted events of
    other names are not stored. The first ignored record is logged. Return the number of records by verdict. Raise
    ``not_a_service`` if no stream of ``origin`` exists, ``InvalidStoredValue`` if it is damaged.
    """
    state, next_offset = stream_store.load(context.connection, origin)
    parsed = [(offset, parse_record(record)) for offset, record in records]
    positions = [record.position for _, record in parsed if isinstance(record, EventRecord)]
    stored_ids = stream_store.stored_ids(context.connection, origin, positions)
    verdicts: Counter[StreamVerdict] = Counter()
    accepted: list[tuple[int, str]] = []
    for offset, record in parsed:
        stored_id = stored_ids.get(record.position) if isinstance(record, EventRecord) else None
        verdict, state = decide(state, record, stored_id=stored_id, now=context.now)
        verdicts[verdict] += 1
        next_offset = offset + 1
        if (
            verdict is StreamVerdict.ACCEPTED
            and isinstance(record, EventRecord)
            and name_of(record.type) in subscriptions
        ):
            accepted.append((record.position, record.envelope))
            stored_ids[record.position] = record.id
        elif verdict is StreamVerdict.IGNORED and verdicts[verdict] == 1:
            LOG.warning("Ignored the record at offset %d of %s: %s.", offset, origin, _reason_of(record))
        elif verdict is StreamVerdict.HISTORY_CHANGED:
            LOG.error("The history of %s changed at offset %d; its stream takes nothing more.", origin, offset)
    context.events.append_received(origin, accepted)
    stream_store.save(context.connection, origin, Stream(state, next_offset))
    return verdicts


def name_of(type_: str) -> str:
    """Return the type of an event without its version."""
    return type_.rpartition(".v")[0]


def _reason_of(record: Record) -> str:
    if isinstance(record, MangledRecord):
        return f"{record.reason} {record.detail}".rstrip()
    return f"it is of the log {record.log_id}"

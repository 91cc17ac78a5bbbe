"""The streams and the relay of a service, and their problems, for `events status` and for the doctor."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from popug_cli.bus import stream_store
from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Context
from popug_cli.bus.cursors import cursor_positions
from popug_cli.bus.log import type_condition
from popug_cli.bus.relay import IS_OWN, two_publishers
from popug_cli.bus.stream_store import Stream
from popug_cli.bus.streams import MAX_GAP_SECONDS
from popug_cli.messages.bus import RelayStatus, ServiceStatus, StreamHistoryChange, StreamStatus


def service_status(context: Context, consumers: Sequence[Consumer]) -> ServiceStatus | None:
    """Return the relay and the streams of the service, or None if the database is not that of a service.

    Raise ``InvalidStoredValue`` if a stream is damaged.
    """
    relay = stream_store.load_relay(context.connection)
    if relay is None:
        return None
    waiting = context.connection.scalar(f"SELECT count(*) FROM bus_log WHERE sequence > ? AND {IS_OWN}", relay.position)
    behind = _behind(context, consumers)
    return ServiceStatus(
        service=relay.service,
        relay=RelayStatus(log_id=relay.log_id, position=relay.position, waiting=waiting),
        streams=[
            _stream_status(origin, stream, behind.get(origin, 0))
            for origin, stream in stream_store.load_all(context.connection).items()
        ],
    )


def gap_problems(context: Context) -> Iterator[str]:
    """Yield a sentence for each stream in which an event has been missing for more than ``MAX_GAP_SECONDS``."""
    for origin, (state, _) in stream_store.load_all(context.connection).items():
        if state.gap_since is not None and state.has_overdue_gap(context.now):
            since = _shown(state.gap_since, context)
            yield (
                f"The stream of {origin} has had a gap since {since}: events after {state.last} have been missing for"
                f" more than {MAX_GAP_SECONDS} seconds. Run `popug cluster republish {origin} --from {state.last + 1}`."
            )


def history_problems(context: Context) -> Iterator[str]:
    """Yield a sentence for each stream that stopped because its publisher's history changed, and one for the relay."""
    relay = stream_store.load_relay(context.connection)
    if relay is not None and relay.stranger is not None:
        error = two_publishers(relay)
        yield f"{error.message} {error.hint}"
    for origin, (state, _) in stream_store.load_all(context.connection).items():
        change = state.history_change
        if change is None:
            continue
        found = f"{origin} has {change.its_id} there" if change.its_id else f"{origin} has no event there any more"
        since = _shown(change.found_at, context)
        yield (
            f"The history of {origin} changed: this service received the event {change.held_id} at {change.position},"
            f" but {found}. Its stream takes nothing since {since}. Restore all services from one backup."
        )


def _shown(instant: datetime, context: Context) -> str:
    return f"{context.calendar.local(instant):%Y-%m-%d %H:%M:%S}"


def _behind(context: Context, consumers: Sequence[Consumer]) -> Mapping[str, int]:
    """Return by origin how many received events the slowest consumer still has to process."""
    positions, behind = cursor_positions(context), dict[str, int]()
    for consumer in consumers:
        rows = context.connection.select(
            "SELECT origin, count(*) FROM bus_received JOIN bus_log USING (sequence)"
            f" WHERE bus_received.sequence > ? AND {type_condition(consumer.types, consumer.prefixes)} GROUP BY origin",
            *(positions.get(consumer.name, 0), *consumer.types, *consumer.prefixes),
        )
        for origin, count in rows:
            behind[origin] = max(count, behind.get(origin, 0))
    return behind


def _stream_status(origin: str, stream: Stream, behind: int) -> StreamStatus:
    state, next_offset = stream
    change = state.history_change
    return StreamStatus(
        origin=origin,
        log_id=state.log_id,
        last=state.last,
        watermark=state.watermark,
        behind=behind,
        next_offset=next_offset,
        mangled=state.mangled_count,
        other_log=state.other_log_count,
        gap_since=state.gap_since,
        history_change=StreamHistoryChange(
            reason=change.reason,
            position=change.position,
            held_id=change.held_id,
            its_id=change.its_id,
            found_at=change.found_at,
        )
        if change
        else None,
    )

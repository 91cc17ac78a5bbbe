"""Coverage: how far the answers of a service show what the other services have published.

A service covers a position of another one, the origin, when it has received and consumed that log up to there. Effects
may also arrive by a third service: a role that identity changes makes tasks reassign, and billing charges for that. So
``COVERAGE`` may name a service whose *includes* must have the position too: it says with a watermark that it covers
the position itself, and the log up to that watermark is consumed.

``covered_positions`` and ``uncovered`` are pure; ``received_logs`` reads what they need from one snapshot.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from popug_cli.bus import stream_store
from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Context, digits_of
from popug_cli.bus.cursors import cursor_positions
from popug_cli.bus.log import type_condition
from popug_cli.bus.parked_events import BLOCKING_STATES
from popug_cli.bus.relay import SELECT_PREVIOUS_OWN
from popug_cli.bus.streams import StreamState
from popug_cli.kernel.positions import Position, Positions

COVERAGE: Mapping[str, Mapping[str, str | None]] = {
    "tasks": {"identity": None, "billing": None},
    "billing": {"tasks": None, "identity": "tasks"},
    "analytics": {"billing": None, "tasks": "billing", "identity": "billing"},
    "mail": {"billing": None, "tasks": "billing", "identity": "billing"},
}
"""By service and origin, the service whose includes must have a position of the origin as well, or None.

It has no cycle: from billing, tasks receives prices only, which cause nothing there.
"""

# The join keeps its order on SQLite, which would read all events of the origin otherwise.
SELECT_FIRST_PENDING = (
    "SELECT origin_position FROM bus_log CROSS JOIN bus_received WHERE bus_log.sequence > ? AND {of_type}"
    " AND bus_received.sequence = bus_log.sequence AND origin = ? ORDER BY bus_log.sequence LIMIT 1"
)
SELECT_SET_ASIDE = (
    "SELECT parked.id, parked.consumer FROM bus_set_aside parked JOIN bus_received USING (sequence)"
    f" WHERE state IN {BLOCKING_STATES} AND origin = ? AND origin_position <= ? ORDER BY parked.id"
)


class ReceivedLog(NamedTuple):
    """How far a service is with the log of another one.

    Its consumers have consumed all up to ``consumed``. ``includes`` has what the publisher covered; it is empty unless
    the log is consumed up to the watermark that said so.
    """

    log_id: str
    consumed: int
    includes: Mapping[str, int]


class MissingEvent(NamedTuple):
    """An event that a consumer has set aside, so that its effects are missing; ``id`` is that of the dead letter."""

    id: int
    consumer: str


def received_log(state: StreamState, first_pending: Sequence[int | None]) -> ReceivedLog:
    """Return how far the consumers are with a stream.

    ``first_pending`` has, for each consumer of it, the position of the first stored event after its cursor, or None.
    Events that were set aside are before the cursor, so they count as consumed.
    """
    end = max(state.watermark, state.last)
    consumed = min([end, *(position - 1 for position in first_pending if position is not None)])
    includes = state.includes if consumed >= state.includes_watermark else {}
    return ReceivedLog(state.log_id, consumed, includes)


def covered_positions(service: str, logs: Mapping[str, ReceivedLog]) -> dict[str, int]:
    """Return the greatest position that a service covers of each origin that it receives.

    A watermark at the end of the service's log may have this as its includes.
    """
    covered = {}
    for origin, via in COVERAGE.get(service, {}).items():
        if origin in logs:
            consumed = logs[origin].consumed
            if via is not None and via in logs:
                consumed = min(consumed, logs[via].includes.get(origin, 0))
            covered[origin] = consumed
    return covered


def uncovered(service: str, logs: Mapping[str, ReceivedLog], seen: Positions) -> dict[str, int]:
    """Return the positions of ``seen`` that a service does not cover, by origin.

    Positions of origins that it does not receive, and of other logs than the received ones, do not count.
    """
    covered = covered_positions(service, logs)
    return {
        origin: number
        for origin, (number, log_id) in seen.items()
        if origin in covered and number > covered[origin] and log_id == digits_of(logs[origin].log_id)
    }


def received_logs(context: Context, service: str, consumers: Sequence[Consumer]) -> dict[str, ReceivedLog]:
    """Return how far the ``consumers`` of a service are with each log that it covers, as the context's snapshot shows.

    Raise ``InvalidStoredValue`` if a stream is damaged.
    """
    received = set(context.connection.column("SELECT origin FROM bus_streams"))
    cursors = cursor_positions(context)
    logs = {}
    for origin in received.intersection(COVERAGE.get(service, {})):
        pending = [
            _first_pending(context, origin, consumer, cursors.get(consumer.name, 0))
            for consumer in consumers
            if any(prefix.startswith(f"popug.{origin}.") for prefix in consumer.prefixes)
        ]
        logs[origin] = received_log(stream_store.load(context.connection, origin).state, pending)
    return logs


def includes_of(context: Context, service: str, consumers: Sequence[Consumer]) -> dict[str, int]:
    """Return what a service covers at the end of its log: the includes of a watermark there."""
    return covered_positions(service, received_logs(context, service, consumers))


def missing_events(context: Context, logs: Mapping[str, ReceivedLog], seen: Positions) -> list[MissingEvent]:
    """Return the events up to the ``seen`` positions that a consumer has set aside."""
    return [
        MissingEvent(*row)
        for origin, (number, log_id) in seen.items()
        if origin in logs and log_id == digits_of(logs[origin].log_id)
        for row in context.connection.select(SELECT_SET_ASIDE, origin, number)
    ]


def own_position(context: Context, service: str) -> Position:
    """Return the position of the service's own last event, which its answers carry.

    It is the end of the log if no service waits for its positions.
    """
    position = context.position
    if any(service in row for row in COVERAGE.values()):
        position, _ = context.connection.select_one(SELECT_PREVIOUS_OWN, position) or (0, "")
    log_id = context.connection.scalar("SELECT log_id FROM bus_relay")
    return Position(position, digits_of(log_id))


def _first_pending(context: Context, origin: str, consumer: Consumer, cursor: int) -> int | None:
    statement = SELECT_FIRST_PENDING.format(of_type=type_condition(consumer.types, consumer.prefixes))
    position: int | None = context.connection.scalar(statement, cursor, *consumer.types, *consumer.prefixes, origin)
    return position

"""Store what a service that shares no database knows about its own log and about the logs of other services.

A service has a copy of the company's whole log, in which each event has the service that published it: its ``origin``.
Events of other services are marked in ``bus_received``. All others are the service's own, and its relay sends them.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from popug_cli.bus.context import Context
from popug_cli.bus.streams import HistoryChange, StreamState
from popug_cli.kernel.clock import from_rfc3339, to_rfc3339
from popug_cli.kernel.errors import Conflict
from popug_cli.kernel.stored_values import InvalidStoredValue
from popug_cli.storage.port import Connection

CHUNK_ROWS = 10_000
CHUNK_POSITIONS = 500
SELECT_STREAMS = (
    "SELECT log_id, last, last_id, watermark, stamped_at, includes, includes_watermark, gap_since, mangled_count,"
    " other_log_count, history_change, next_offset, origin FROM bus_streams"
)
INSERT_STREAM = (
    "INSERT INTO bus_streams (log_id, last, last_id, watermark, stamped_at, includes, includes_watermark, gap_since,"
    " mangled_count, other_log_count, history_change, next_offset, origin)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
UPDATE_STREAM = (
    "UPDATE bus_streams SET log_id = ?, last = ?, last_id = ?, watermark = ?, stamped_at = ?, includes = ?,"
    " includes_watermark = ?, gap_since = ?, mangled_count = ?, other_log_count = ?, history_change = ?,"
    " next_offset = ? WHERE origin = ?"
)
SELECT_STORED_IDS = (
    "SELECT origin_position, log.id FROM bus_received JOIN bus_log log USING (sequence)"
    " WHERE origin = ? AND origin_position IN"
)
SELECT_RELAY = "SELECT service, log_id, position, claimed, database_id, reached, own_offset, stranger FROM bus_relay"
SELECT_LAST_OF_ORIGIN = (
    "SELECT origin_position, log.id FROM bus_received JOIN bus_log log USING (sequence)"
    " WHERE origin = ? ORDER BY origin_position DESC LIMIT 1"
)
SELECT_ORIGIN_POSITIONS = "SELECT sequence, origin_position FROM bus_received WHERE origin = ? AND sequence IN"
_decode_includes = msgspec.json.Decoder(dict[str, int]).decode
_decode_change = msgspec.json.Decoder(HistoryChange).decode


class Stream(NamedTuple):
    """The state of a stream, and the offset in its topic of the next record to read."""

    state: StreamState
    next_offset: int


class Relay(NamedTuple):
    """The name of a service, the id of its log, and how far its relay is: see ``RelayRow``."""

    service: str
    log_id: str
    position: int
    claimed: int
    database_id: str
    reached: int
    own_offset: int
    stranger: str | None


class _BusData(msgspec.Struct, frozen=True):
    consumer: str = ""


class _Source(msgspec.Struct, frozen=True):
    source: str
    data: _BusData


_decode_source = msgspec.json.Decoder(_Source).decode


def origin_of(envelope: str) -> str:
    """Return the service that publishes an event, or an empty text if the envelope has no readable source.

    It is the service of the event's source. An event of the bus belongs to the service whose consumer it concerns.
    """
    try:
        event = _decode_source(envelope)
    except msgspec.MsgspecError:
        return ""
    service = event.source.removeprefix("/popug/")
    return event.data.consumer if service == "bus" else service


def create_service(context: Context, service: str, log_id: str, streams: Mapping[str, str]) -> None:
    """Make a copy of a company's database the database of one service.

    ``log_id`` is the id of its log; ``streams`` has the ids of the logs that it receives, by the name of the service.
    All services begin with the same log. So the relay begins after its last event, and each stream at the last event of
    its origin.
    """
    head = context.log.last_position()
    context.connection.execute(
        "INSERT INTO bus_relay (id, service, log_id, position, claimed, database_id, reached)"
        " VALUES (1, ?, ?, ?, ?, ?, ?)",
        service, log_id, head, head, context.connection.database_id(), head,
    )  # fmt: skip
    _mark_received(context, service)
    for origin, stream_log_id in streams.items():
        last, last_id = context.connection.select_one(SELECT_LAST_OF_ORIGIN, origin) or (0, "")
        state = StreamState(log_id=stream_log_id, last=last, last_id=last_id, watermark=head)
        context.connection.execute(INSERT_STREAM, *_row_of(origin, Stream(state, 0)))


def adopt_database(connection: Connection) -> None:
    """Let the relay start on this database, whose content was copied from another one."""
    connection.execute("UPDATE bus_relay SET database_id = ?", connection.database_id())


def forget_consumers(context: Context, consumers: Collection[str]) -> None:
    """Delete the cursors of consumers that other services run, with the events that they have set aside."""
    for consumer in sorted(consumers):
        for table in ("bus_cursors", "bus_inbox", "bus_set_aside"):
            context.connection.execute(f"DELETE FROM {table} WHERE consumer = ?", consumer)


def find_state(connection: Connection, origin: str) -> StreamState | None:
    """Return the state of the stream of a service, or None if its events are not received; raise as ``load`` does."""
    row = connection.select_one(f"{SELECT_STREAMS} WHERE origin = ?", origin)
    return None if row is None else _stream_of(row).state


def load(connection: Connection, origin: str) -> Stream:
    """Return the stream of a service; raise ``not_a_service``, or ``InvalidStoredValue`` if the stream is damaged."""
    row = connection.select_one(f"{SELECT_STREAMS} WHERE origin = ?", origin)
    if row is None:
        raise not_a_service(f"it receives no events of {origin}")
    return _stream_of(row)


def load_all(connection: Connection) -> dict[str, Stream]:
    """Return all streams by origin, in the order of the names; raise ``InvalidStoredValue`` if one is damaged."""
    return {row[-1]: _stream_of(row) for row in connection.select(f"{SELECT_STREAMS} ORDER BY origin")}


def load_relay(connection: Connection) -> Relay | None:
    """Return the relay of the service, or None if the database is not that of a service."""
    row = connection.select_one(SELECT_RELAY)
    return Relay(*row) if row else None


def _stream_of(row: Sequence[Any]) -> Stream:
    log_id, last, last_id, watermark, stamped_at, includes, includes_watermark, *more = row
    gap_since, mangled_count, other_log_count, change, offset, origin = more
    try:
        state = StreamState(
            log_id=log_id,
            last=last,
            last_id=last_id,
            watermark=watermark,
            stamped_at=_instant(stamped_at),
            includes=_decode_includes(includes),
            includes_watermark=includes_watermark,
            gap_since=_instant(gap_since),
            mangled_count=mangled_count,
            other_log_count=other_log_count,
            history_change=_decode_change(change) if change else None,
        )
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidStoredValue(f"the stream of {origin} is damaged: {error}") from error
    return Stream(state, offset)


def save(connection: Connection, origin: str, stream: Stream) -> None:
    """Store the new state of a stream."""
    connection.execute(UPDATE_STREAM, *_row_of(origin, stream))


def not_a_service(reason: str) -> Conflict:
    """Return the error for a database that is not that of a service."""
    sentence = f"This database is not that of a service in a cluster: {reason}."
    return Conflict("not_a_service", sentence, hint="Use a database that was made for the service.")


def stored_ids(connection: Connection, origin: str, positions: Sequence[int]) -> dict[int, str]:
    """Return the ids of the stored events at some positions of the log of ``origin``."""
    ids: dict[int, str] = {}
    for start in range(0, len(positions), CHUNK_POSITIONS):
        chunk = positions[start : start + CHUNK_POSITIONS]
        placeholders = ",".join("?" * len(chunk))
        ids.update(connection.select(f"{SELECT_STORED_IDS} ({placeholders})", origin, *chunk))
    return ids


def origin_positions(connection: Connection, origin: str, sequences: Sequence[int]) -> dict[int, int]:
    """Return the positions in the log of ``origin`` of those events, given by local position, that it published."""
    positions: dict[int, int] = {}
    for start in range(0, len(sequences), CHUNK_POSITIONS):
        chunk = sequences[start : start + CHUNK_POSITIONS]
        placeholders = ",".join("?" * len(chunk))
        positions.update(connection.select(f"{SELECT_ORIGIN_POSITIONS} ({placeholders})", origin, *chunk))
    return positions


def _mark_received(context: Context, service: str) -> None:
    """Mark the events of all other services in the copied log."""
    position = 0
    while rows := context.connection.select(
        "SELECT sequence, envelope FROM bus_log WHERE sequence > ? ORDER BY sequence LIMIT ?", position, CHUNK_ROWS
    ):
        origins = [(sequence, origin_of(envelope), sequence) for sequence, envelope in rows]
        context.connection.insert_many(
            "INSERT INTO bus_received (sequence, origin, origin_position) VALUES (?, ?, ?)",
            [row for row in origins if row[1] != service],
        )
        position = rows[-1][0]


def _row_of(origin: str, stream: Stream) -> tuple[object, ...]:
    state = stream.state
    change = state.history_change
    return (
        state.log_id,
        state.last,
        state.last_id,
        state.watermark,
        to_rfc3339(state.stamped_at) if state.stamped_at else None,
        msgspec.json.encode(dict(state.includes), order="sorted").decode(),
        state.includes_watermark,
        to_rfc3339(state.gap_since) if state.gap_since else None,
        state.mangled_count,
        state.other_log_count,
        msgspec.json.encode(change).decode() if change else None,
        stream.next_offset,
        origin,
    )


def _instant(text: str | None) -> datetime | None:
    return from_rfc3339(text) if text else None

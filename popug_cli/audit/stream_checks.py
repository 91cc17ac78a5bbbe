"""Checks of the streams and of the relay of a service that shares no database."""

from collections.abc import Iterator
from itertools import islice

import msgspec

from popug_cli.audit.log_pass import UNREADABLE_ENVELOPE_ERRORS, LogCheck, LogRow, has_enough
from popug_cli.audit.result import MAX_SHOWN_VIOLATIONS, check_result
from popug_cli.bus import stream_store
from popug_cli.bus.context import Context
from popug_cli.bus.log import decode_text
from popug_cli.bus.replicator import name_of
from popug_cli.bus.service.status import gap_problems, history_problems
from popug_cli.messages.company import Check
from popug_cli.storage.errors import DATABASE_ERRORS

SELECT_LAST_RECEIVED = """
    SELECT received.origin_position, log.id FROM bus_received received LEFT JOIN bus_log log USING (sequence)
    WHERE received.origin = ? ORDER BY received.origin_position DESC LIMIT 1
"""
SELECT_HOLES = """
    SELECT 'received event ' || sequence FROM bus_received received
    WHERE NOT EXISTS (SELECT 1 FROM bus_log log WHERE log.sequence = received.sequence) LIMIT ?
"""
Received = tuple[int, str, int]  # its position in the log, its origin and its position there


class _Sequence(msgspec.Struct):
    sequence: str


_decode_sequence = msgspec.json.Decoder(_Sequence).decode


def is_service(context: Context) -> bool:
    """Return whether the database is that of a service; False if that cannot be read, which another check reports."""
    try:
        return stream_store.load_relay(context.connection) is not None
    except DATABASE_ERRORS:
        return False


def streams_match_log(context: Context) -> Check:
    """Check that each stream agrees with the events of it that are stored, and the relay with the log."""
    statement = "the streams and the relay agree with the log"
    return check_result("streams_match_log", statement, list(islice(_wrong_streams(context), MAX_SHOWN_VIOLATIONS + 1)))


def received_events_match_log(context: Context) -> LogCheck:
    """Check that exactly the events of other services are marked as received, with their positions there."""
    marks = _Marks(context)
    violations = [*context.connection.column(SELECT_HOLES, MAX_SHOWN_VIOLATIONS + 1)]
    while (batch := (yield)) is not None and not has_enough(violations):
        violations += marks.read(batch.rows)
    statement = "exactly the events of other services are marked as received, with their positions"
    return check_result("received_events_match_log", statement, violations)


def stream_gaps(context: Context) -> Check:
    """Check that no stream lacks an event for more than a minute."""
    return check_result("stream_gaps", "no stream lacks an event for more than a minute", [*gap_problems(context)])


def stream_histories(context: Context) -> Check:
    """Check that no publisher's history has changed."""
    return check_result(
        "stream_histories", "no service's history contradicts what was received", [*history_problems(context)]
    )


def _wrong_streams(context: Context) -> Iterator[str]:
    connection, head = context.connection, context.position
    for origin, (state, next_offset) in stream_store.load_all(connection).items():
        position, event_id = connection.select_one(SELECT_LAST_RECEIVED, origin) or (0, "")
        if position > state.last or (position == state.last and event_id != state.last_id):
            yield f"{origin} ends at {state.last} ({state.last_id}), but {position} ({event_id}) is stored"
        if state.includes_watermark > state.watermark:
            yield f"{origin} includes at {state.includes_watermark}, beyond its watermark {state.watermark}"
        if min(state.last, state.watermark, next_offset, state.mangled_count, state.other_log_count) < 0:
            yield f"{origin} has a negative number"
    relay = stream_store.load_relay(connection)
    assert relay is not None
    if not 0 <= relay.position <= head:
        yield f"the relay is at {relay.position}, and the log ends at {head}"
    if stream_store.load_all(connection).get(relay.service):
        yield f"{relay.service} receives its own events"


class _Marks:
    """The marks of received events in the order of the log, each compared with its event."""

    def __init__(self, context: Context) -> None:
        statement = "SELECT sequence, origin, origin_position FROM bus_received ORDER BY sequence"
        self._marks: Iterator[Received] = context.connection.stream(statement)
        self._mark = next(self._marks, None)
        self._highest: dict[tuple[str, str], int] = {}

    def read(self, rows: list[LogRow]) -> Iterator[str]:
        """Yield the violations among the next rows of the log."""
        for sequence, type_, envelope in rows:
            while self._mark is not None and self._mark[0] < sequence:
                self._mark = next(self._marks, None)
            mark = self._mark if self._mark is not None and self._mark[0] == sequence else None
            yield from self._compare(sequence, decode_text(type_), decode_text(envelope), mark)

    def _compare(self, sequence: int, type_: str, envelope: str, mark: Received | None) -> Iterator[str]:
        """Yield what is wrong with an event: its envelope names its position in the log of its origin."""
        position = _position_in(envelope)
        if mark is None:
            if position not in {None, sequence}:
                yield f"event {sequence} is of another service, but is not marked as received"
            return
        _, origin, origin_position = mark
        if position != origin_position and (position is not None or origin_position != sequence):
            yield f"event {sequence} is marked as {origin_position} of {origin}, which its envelope does not say"
        key = origin, name_of(type_)  # the events of a further name are appended later
        if origin_position <= self._highest.get(key, 0):
            yield f"event {sequence} is {origin_position} of {origin}, but comes after {self._highest[key]}"
        self._highest[key] = origin_position


def _position_in(envelope: str) -> int | None:
    """Return the position that an envelope names, or None if it names none."""
    try:
        return int(_decode_sequence(envelope).sequence)
    except (*UNREADABLE_ENVELOPE_ERRORS, ValueError):
        return None

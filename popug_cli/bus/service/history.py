"""Subscribe to a further name of a publisher: its history up to the end of the stream, then the topic's new events.

A stream is read whole, and only events of subscribed names are stored. So a name that a newer program also needs has no
events in the log. The publisher is asked for them, and they are appended in the transaction that changes the
subscription. A consumer processes them after the events that were stored before.
"""

from collections.abc import Iterable

import msgspec

from popug_cli.bus import stream_store
from popug_cli.bus.context import Context
from popug_cli.bus.log import FREQUENT_TYPES, type_condition
from popug_cli.bus.records import EventRecord, make_event_record, parse_record
from popug_cli.bus.relay import IS_OWN
from popug_cli.bus.replicator import name_of
from popug_cli.bus.service.restore import SELECT_OWN_ID, require_relay
from popug_cli.kernel.errors import Conflict
from popug_cli.kernel.stored_values import InvalidStoredValue

INSERT_SUBSCRIPTION = "INSERT INTO bus_subscriptions (origin, name) VALUES (?, ?) ON CONFLICT (origin, name) DO NOTHING"


class PastEvent(msgspec.Struct, frozen=True):
    """An event of the publisher at its position there; the envelope is as stored."""

    position: int
    envelope: str


class History(msgspec.Struct, frozen=True):
    """All own events of one name, in any version, in the log ``log_id`` up to ``up_to``.

    ``last_id`` is the id of the own event at ``up_to``; empty if there is none.
    """

    log_id: str
    name: str
    up_to: int
    last_id: str
    events: list[PastEvent]


def history_of(context: Context, name: str, up_to: int) -> History:
    """Return the own events of this service that have a name such as ``popug.tasks.task_created``, up to a position.

    Raise ``not_a_service``.
    """
    relay = require_relay(context)
    types = [type_ for type_ in FREQUENT_TYPES if name_of(type_) == name] or [f"{name}.v1"]
    prefixes = [f"{name}.v"]
    rows = context.connection.select(
        f"SELECT sequence, envelope FROM bus_log WHERE sequence <= ? AND {type_condition(types, prefixes)} AND {IS_OWN}"
        " ORDER BY sequence",
        *(up_to, *types, *prefixes),
    )
    last_id = context.connection.scalar(SELECT_OWN_ID, up_to) or ""
    return History(relay.log_id, name, up_to, last_id, [PastEvent(*row) for row in rows])


def stored_subscriptions(context: Context, origin: str) -> set[str]:
    """Return the names of the events of ``origin`` that this service stores."""
    return set(context.connection.column("SELECT name FROM bus_subscriptions WHERE origin = ?", origin))


def set_first_subscriptions(context: Context, origin: str, names: Iterable[str]) -> None:
    """Store the names to which a new service subscribes: its log has all events of them already."""
    context.connection.insert_many(INSERT_SUBSCRIPTION, [(origin, name) for name in sorted(names)])


def subscribe(context: Context, origin: str, history: History) -> int:
    """Subscribe to the name of a history and append its events that are not stored yet; return how many these are.

    All of it is done in the caller's transaction. Raise ``stream_moved`` if the stream is not where the history ends:
    the caller then asks the publisher again. Raise ``history_differs`` if the publisher has another log than the
    stream, or other events, or if one of them is not valid.
    """
    state, _ = stream_store.load(context.connection, origin)
    if history.log_id == state.log_id and history.up_to != state.last:
        raise Conflict(
            "stream_moved",
            f"The stream of {origin} is at {state.last}, but the history of {history.name} ends at {history.up_to}.",
            hint="Ask for the history again.",
        )
    if (history.log_id, history.last_id) != (state.log_id, state.last_id) or state.history_change is not None:
        raise _history_differs(origin, history)
    records = [_checked(event, origin, history) for event in history.events]
    stored = stream_store.stored_ids(context.connection, origin, [record.position for record in records])
    if any(stored.get(record.position, record.id) != record.id for record in records):
        raise _history_differs(origin, history)
    missing = [(record.position, record.envelope) for record in records if record.position not in stored]
    context.events.append_received(origin, missing)
    context.connection.execute(INSERT_SUBSCRIPTION, origin, history.name)
    return len(missing)


def _checked(event: PastEvent, origin: str, history: History) -> EventRecord:
    """Return an event as its record would be; raise ``history_differs`` if it does not belong to the history."""
    try:
        topic_record = make_event_record(history.log_id, event.position, event.envelope, previous=0, previous_id="")
    except InvalidStoredValue as error:
        raise _history_differs(origin, history) from error
    record = parse_record(topic_record)
    assert isinstance(record, EventRecord)
    if name_of(record.type) != history.name or record.position > history.up_to:
        raise _history_differs(origin, history)
    return record


def _history_differs(origin: str, history: History) -> Conflict:
    return Conflict(
        "history_differs",
        f"The history of {history.name} up to {history.up_to} is not that of the stream of {origin}.",
        hint="Run `popug events status` for the state of the streams.",
    )

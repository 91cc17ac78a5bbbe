"""Queries on the log and on parked events."""

from typing import Any, NamedTuple

import msgspec

from popug_cli.bus.context import Context
from popug_cli.bus.log import ENVELOPE, decode_text
from popug_cli.bus.parked_events import BLOCKING_STATES
from popug_cli.bus.relay import IS_OWN
from popug_cli.kernel.errors import InvalidInput, NotFound
from popug_cli.messages.base import MAX_ANSWER_ROWS, MAX_OFFSET
from popug_cli.messages.bus import EnvelopeDocument, EventPage, ListEvents, ShowEvent
from popug_cli.messages.services import SERVICES
from popug_cli.storage.id_index import equal_ids

MAX_FILTER_CHARACTERS = 200


class ParkedEvent(NamedTuple):
    """A parked event with its envelope; ``state`` is ``retrying`` or ``dead``, or ``waiting`` behind such an event."""

    id: int
    consumer: str
    sequence: int
    subject: str
    state: str
    attempts: int
    error: str
    envelope: str


def list_events(message: ListEvents, context: Context) -> EventPage:
    """Return the first events after a position that match every filter, at most ``MAX_ANSWER_ROWS``.

    Raise ``invalid_filter``, or ``usage`` for a service that does not exist and for the cursor of a cluster.
    """
    if message.cursor is not None:
        raise InvalidInput("usage", "A cursor is for a cluster.", hint="Continue after a position, with --after.")
    for typed in filter(None, (message.type, message.subject, message.actor)):
        _check_filter(typed)
    conditions = ["sequence > :after"]
    if message.type is not None:
        conditions.append("(type = :type OR type LIKE :type_pattern ESCAPE '\\')")
    if message.subject is not None:
        conditions.append(equal_ids("subject", ":subject"))
    if message.actor is not None:
        conditions.append("actor = :actor")
    if message.service is not None:
        conditions.append(_of_service(message.service, context.service))
    matching = f"FROM bus_log WHERE {' AND '.join(conditions)}"
    statement = f"SELECT sequence, {ENVELOPE} {matching} ORDER BY sequence LIMIT :limit"
    parameters = {
        "after": message.after,
        "type": message.type,
        "type_pattern": f"popug.%.{_escape_like(message.type or '')}.v%",
        "subject": message.subject,
        "actor": (message.actor or "").lower(),
        "service": message.service,
        "types_of_service": f"popug.{message.service}.%",
        "consumer_of_bus": f'%"consumer":"{message.service}"%',
        "limit": min(message.limit or MAX_ANSWER_ROWS, MAX_ANSWER_ROWS),
    }
    if message.last is not None:
        first = f"SELECT sequence {matching} ORDER BY sequence DESC LIMIT 1 OFFSET :earlier"
        row = context.connection.select_one(first, **parameters, earlier=min(message.last - 1, MAX_OFFSET))
        parameters["after"] = row[0] - 1 if row else message.after
    rows = context.connection.select(statement, **parameters)
    return EventPage([document(sequence, decode_text(envelope)) for sequence, envelope in rows])


def _of_service(service: str, own_service: str) -> str:
    """Return the condition that a service publishes an event. An event of the bus belongs to that of its consumer."""
    if service not in SERVICES:
        hint = f"The services are {', '.join(SERVICES)}."
        raise InvalidInput("usage", f"There is no service {service!r}.", hint=hint, details={"service": service})
    if service == own_service:
        return IS_OWN
    if own_service:
        return "sequence IN (SELECT sequence FROM bus_received WHERE origin = :service)"
    return "(type LIKE :types_of_service OR (type LIKE 'popug.bus.%' AND envelope LIKE :consumer_of_bus))"


def show_event(message: ShowEvent, context: Context) -> EnvelopeDocument:
    """Return the event with that id; raise ``event_not_found``."""
    statement = f"SELECT sequence, {ENVELOPE} FROM bus_log WHERE {equal_ids('id', ':id')}"
    row = context.connection.select_one(statement, id=message.event_id)
    if row is None:
        raise NotFound(
            "event_not_found",
            f"There is no event {message.event_id!r}.",
            hint="Run `popug events list` for all of them.",
            details={"event_id": message.event_id},
        )
    sequence, envelope = row
    return document(sequence, decode_text(envelope))


def position_at_publisher(context: Context, sequence: int) -> int:
    """Return the position of an event in the log of the service that published it."""
    statement = "SELECT origin_position FROM bus_received WHERE sequence = ?"
    position: int | None = context.connection.scalar(statement, sequence)
    return sequence if position is None else position


def list_parked_events(context: Context) -> list[ParkedEvent]:
    """Return the parked events of all consumers, in log order."""
    statement = (
        "SELECT parked.id, parked.consumer, parked.sequence, parked.subject, parked.state, parked.attempts,"
        " parked.error, CAST(coalesce(bus_log.envelope, '{}') AS BLOB)"
        " FROM bus_set_aside parked LEFT JOIN bus_log USING (sequence)"
        f" WHERE parked.state IN {BLOCKING_STATES} ORDER BY parked.sequence, parked.consumer"
    )
    rows = context.connection.select(statement)
    return [ParkedEvent._make((*columns, decode_text(envelope))) for *columns, envelope in rows]


def document(sequence: int, envelope: str) -> EnvelopeDocument:
    """Return the stored envelope as an object, with the event's position in the log as its ``sequence``.

    An envelope that is not JSON becomes the field ``unreadable``, and JSON that is not an object the field ``data``.
    """
    try:
        decoded: Any = msgspec.json.decode(envelope)
    except msgspec.MsgspecError:
        decoded = {"unreadable": envelope}
    fields: dict[str, Any] = decoded if isinstance(decoded, dict) else {"data": decoded}
    return fields | {"sequence": str(sequence)}


def _check_filter(typed: str) -> None:
    """Raise ``invalid_filter`` for a text that no event can contain, or that the database does not accept."""
    if len(typed) > MAX_FILTER_CHARACTERS or any("\ud800" <= character <= "\udfff" for character in typed):
        raise InvalidInput(
            "invalid_filter",
            f"A filter has at most {MAX_FILTER_CHARACTERS} characters, all of them valid Unicode.",
            hint="Name a type such as task_completed; `popug events schemas` lists all types.",
            details={"filter": typed[:MAX_FILTER_CHARACTERS]},
        )


def _escape_like(name: str) -> str:
    return name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")

"""Give the logs of services new ids after a restore, which begins a new life, and send events again.

A restore may take back events that other services have seen. So all logs get new ids, and every stream is given the new
id of its publisher: records of the previous life are then ignored wherever they still are.
"""

from collections.abc import Mapping
from typing import NamedTuple

from popug_cli.bus import stream_store
from popug_cli.bus.context import Context
from popug_cli.bus.relay import IS_OWN
from popug_cli.bus.stream_store import Relay, Stream
from popug_cli.kernel.errors import Conflict, InvalidInput

SELECT_OWN_ID = f"SELECT id FROM bus_log WHERE sequence = ? AND {IS_OWN}"


class Received(NamedTuple):
    """The position and the id of the last event of the service's log that a receiver has accepted."""

    last: int
    last_id: str


def require_received(context: Context, received: Mapping[str, Received]) -> None:
    """Raise ``received_unknown`` if a receiver has an event that this service's log lacks, or has under another id.

    ``received`` has the state of the stream of this service at each receiver, by the name of the receiver.
    """
    for receiver, (last, last_id) in sorted(received.items()):
        own_id = context.connection.scalar(SELECT_OWN_ID, last) or ""
        if own_id != last_id or (last == 0) != (last_id == ""):
            raise Conflict(
                "received_unknown",
                f"{receiver} has received the event {last_id or 'none'} at {last} of this service, but its log has"
                f" {own_id or 'no event of its own'} there.",
                hint="Restore all services from one backup, or all to one point in time.",
                details={"receiver": receiver, "position": last},
            )


def begin_new_life(context: Context, log_ids: Mapping[str, str], received: Mapping[str, Received]) -> None:
    """Give this service's log and its streams new ids; send again all that the slowest receiver lacks.

    ``log_ids`` has the new id of the log of each service, by its name. Every stream reads its topic from the beginning,
    and keeps the events that it has accepted. Without a receiver, the relay stays where it is. Raise ``not_a_service``,
    ``received_unknown``, or ``KeyError`` if a service has no new id.
    """
    connection = context.connection
    relay = require_relay(context)
    require_received(context, received)
    position = min([state.last for state in received.values()], default=relay.position)
    connection.execute(
        "UPDATE bus_relay SET log_id = ?, position = ?, claimed = ?, database_id = ?, reached = 0, own_offset = 0,"
        " stranger = NULL",
        *(log_ids[relay.service], position, context.log.last_position(), connection.database_id()),
    )
    for origin, (state, _) in stream_store.load_all(connection).items():
        stream_store.save(connection, origin, Stream(state.with_log_id(log_ids[origin]), 0))


def republish(context: Context, first: int) -> int:
    """Let the relay send all own events from position ``first`` on again; return how many these are.

    Raise ``not_a_service``, or ``not_sent_yet`` if the relay has not reached that position: it is only set back.
    """
    relay = require_relay(context)
    if not 1 <= first <= relay.position:
        raise InvalidInput(
            "not_sent_yet",
            f"{relay.service} has sent its events from 1 to {relay.position}; {first} is not among them.",
            hint=f"Name a position from 1 to {relay.position}." if relay.position else "Wait until it has sent some.",
            details={"from": first, "sent": relay.position},
        )
    context.connection.execute("UPDATE bus_relay SET position = ?", first - 1)
    statement = f"SELECT count(*) FROM bus_log WHERE sequence BETWEEN ? AND ? AND {IS_OWN}"
    count: int = context.connection.scalar(statement, first, relay.position)
    return count


def require_own_database(context: Context) -> None:
    """Raise ``copied_database`` if this is not the database with which the log id was made, but a copy of it.

    A relay starts only after this. A standby that takes over has the identity of its primary.
    """
    relay = require_relay(context)
    if relay.database_id != context.connection.database_id():
        raise Conflict(
            "copied_database",
            f"This database is a copy of that of the service {relay.service}, so it must not publish as that service.",
            hint="Start the service on its own database; after a restore, all services need new log ids.",
            details={"service": relay.service},
        )


def require_relay(context: Context) -> Relay:
    """Return the relay of this service; raise ``not_a_service``."""
    relay = stream_store.load_relay(context.connection)
    if relay is None:
        raise stream_store.not_a_service("it has no log id")
    return relay

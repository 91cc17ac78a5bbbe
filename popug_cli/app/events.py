"""What people ask of the bus where it takes the consumers to answer."""

from typing import TYPE_CHECKING

from popug_cli.billing.stakes import stake_cents
from popug_cli.bus import dead_letters
from popug_cli.bus.queries import document, held_events
from popug_cli.bus.runtime import Context
from popug_cli.bus.status import bus_status
from popug_cli.identity import gate
from popug_cli.messages.base import DECLARATIONS
from popug_cli.messages.bus import (
    BusStatus,
    DeadLetter,
    DeadLetters,
    DropDeadLetter,
    Dropped,
    ListDeadLetters,
    Retried,
    RetryDeadLetters,
    Schemas,
    ShowBusStatus,
    ShowSchemas,
)
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local import Local

MODULE = "bus"


def show_bus_status(place: "Local", message: ShowBusStatus, principal: Principal) -> BusStatus:
    """How far every consumer has come."""
    place.catch_up()
    with place.runtime.reading(principal) as context:
        return bus_status(context, sorted(place.consumers, key=lambda each: each.name))


def list_dead_letters(place: "Local", message: ListDeadLetters, principal: Principal) -> DeadLetters:
    """What is set aside, with what waits behind it and the money that hangs on both."""
    place.catch_up()
    with place.runtime.reading(principal) as context:
        held = held_events(context)
        letters = []
        for head in [each for each in held if each.state != "waiting"]:
            behind = [e for e in held if (e.consumer, e.subject) == (head.consumer, head.subject)]
            letters.append(
                DeadLetter(
                    dead_id=head.id,
                    consumer=head.consumer,
                    event=document(head.sequence, head.envelope),
                    state=head.state,
                    error=head.error,
                    attempts=head.attempts,
                    waiting=len(behind) - 1,
                    amount_cents=sum(stake_cents(each, context) for each in behind),
                )
            )
    return DeadLetters(letters)


def retry_dead_letters(place: "Local", message: RetryDeadLetters, principal: Principal) -> Retried:
    """Try again now, then let everybody catch up with what came of it."""

    def work(context: Context) -> Retried:
        gate.admit(principal, DECLARATIONS[type(message)], message, context)
        return dead_letters.retry(context, place.consumers, message.dead_id)

    answer = place.write(MODULE, principal, work)
    place.catch_up()
    return answer


def drop_dead_letter(place: "Local", message: DropDeadLetter, principal: Principal) -> Dropped:
    """Give one up, then let what waited behind it go on."""

    def work(context: Context) -> Dropped:
        gate.admit(principal, DECLARATIONS[type(message)], message, context)
        held = dead_letters.drop(context, message.dead_id, message.reason)
        type_ = str(document(held.sequence, held.envelope).get("type"))
        return Dropped(dead_letters.event_id_of(held), type_, held.consumer, stake_cents(held, context))

    dropped = place.write(MODULE, principal, work)
    place.catch_up()
    return dropped


def show_schemas(place: "Local", message: ShowSchemas, principal: Principal) -> Schemas:
    """The JSON Schema of every version of every event."""
    from popug_cli.messages.schema import all_schemas

    return Schemas(all_schemas())

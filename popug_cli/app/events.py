"""What people ask of the bus where it takes the consumers to answer."""

from typing import TYPE_CHECKING

from popug_cli.billing.stakes import amount_at_stake_cents
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
    DroppedLetter,
    ListDeadLetters,
    RetryDeadLetters,
    RetryResult,
    Schemas,
    ShowBusStatus,
    ShowSchemas,
)
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local import LocalBackend

MODULE = "bus"


def show_bus_status(backend: "LocalBackend", message: ShowBusStatus, principal: Principal) -> BusStatus:
    """How far every consumer has come."""
    backend.catch_up()
    with backend.runtime.reading(principal) as context:
        return bus_status(context, sorted(backend.consumers, key=lambda consumer: consumer.name))


def list_dead_letters(backend: "LocalBackend", message: ListDeadLetters, principal: Principal) -> DeadLetters:
    """What is set aside, with what waits behind it and the money that hangs on both."""
    backend.catch_up()
    with backend.runtime.reading(principal) as context:
        parked_events = held_events(context)
        letters = []
        for head in [parked for parked in parked_events if parked.state != "waiting"]:
            behind = [
                event for event in parked_events if (event.consumer, event.subject) == (head.consumer, head.subject)
            ]
            letters.append(
                DeadLetter(
                    dead_id=head.id,
                    consumer=head.consumer,
                    event=document(head.sequence, head.envelope),
                    state=head.state,
                    error=head.error,
                    attempts=head.attempts,
                    waiting=len(behind) - 1,
                    amount_cents=sum(amount_at_stake_cents(parked, context) for parked in behind),
                )
            )
    return DeadLetters(letters)


def retry_dead_letters(backend: "LocalBackend", message: RetryDeadLetters, principal: Principal) -> RetryResult:
    """Try again now, then let everybody catch up with what came of it."""

    def work(context: Context) -> RetryResult:
        gate.authorize(principal, DECLARATIONS[type(message)], message, context)
        return dead_letters.retry(context, backend.consumers, message.dead_id)

    answer = backend.write(MODULE, principal, work)
    backend.catch_up()
    return answer


def drop_dead_letter(backend: "LocalBackend", message: DropDeadLetter, principal: Principal) -> DroppedLetter:
    """Give one up, then let what waited behind it go on."""

    def work(context: Context) -> DroppedLetter:
        gate.authorize(principal, DECLARATIONS[type(message)], message, context)
        held = dead_letters.drop(context, message.dead_id, message.reason)
        type_ = str(document(held.sequence, held.envelope).get("type"))
        return DroppedLetter(dead_letters.event_id_of(held), type_, held.consumer, amount_at_stake_cents(held, context))

    dropped = backend.write(MODULE, principal, work)
    backend.catch_up()
    return dropped


def show_schemas(backend: "LocalBackend", message: ShowSchemas, principal: Principal) -> Schemas:
    """The JSON Schema of every version of every event."""
    from popug_cli.messages.schema import all_schemas

    return Schemas(all_schemas())

"""What people do with dead letters: try them again, or give them up."""

from collections.abc import Sequence

from sqlalchemy import text

from popug_cli.bus.consumers import Consumer, drain
from popug_cli.bus.queries import HeldEvent, document, held_events
from popug_cli.bus.runtime import Context
from popug_cli.kernel.clock import stamp
from popug_cli.kernel.errors import InvalidInput, NotFound
from popug_cli.kernel.text import is_blank
from popug_cli.messages.bus import DeadLetterDropped, DeadLetterRetried, Retried

MAX_REASON_CHARACTERS = 500
MAX_ID_CHARACTERS = 64


def heads(context: Context) -> list[HeldEvent]:
    """What holds others up: the first event of each consumer and subject that is set aside."""
    return [held for held in held_events(context) if held.state != "waiting"]


def retry(context: Context, consumers: Sequence[Consumer], dead_id: int | None) -> Retried:
    """Drain one dead letter's subject, or all; raises ``dead_letter_not_found``."""
    chosen = heads(context) if dead_id is None else [find(context, dead_id)]
    by_name = {consumer.name: consumer for consumer in consumers}
    before = len(held_events(context))
    still_dead = sum(_retry_one(held, by_name[held.consumer], context) for held in chosen)
    return Retried(retried=before - len(held_events(context)), still_dead=still_dead)


def _retry_one(held: HeldEvent, consumer: Consumer, context: Context) -> int:
    """Drain the subject of a dead letter; 1 comes back if something of it is dead still."""
    still_dead = drain(consumer, held.subject, context)
    done = all(each.id != held.id for each in heads(context))
    event_id = event_id_of(held)
    context.events.publish(
        DeadLetterRetried(event_id=event_id, consumer=held.consumer, sequence=held.sequence, done=done)
    )
    return still_dead


def drop(context: Context, dead_id: int, reason: str) -> HeldEvent:
    """Give a dead letter up for good, as an event; what waits behind it is due at once."""
    reason = " ".join(reason.split())
    if len(reason) > MAX_REASON_CHARACTERS or is_blank(reason):
        sentence = f"A reason has 1 to {MAX_REASON_CHARACTERS} characters."
        raise InvalidInput("invalid_reason", sentence, hint="Say in a sentence why: --reason '…'.")
    held = find(context, dead_id)
    connection = context.connection
    connection.execute(
        text("UPDATE bus_set_aside SET state = 'dropped', due_at = NULL, error = :reason WHERE id = :id"),
        {"reason": reason, "id": held.id},
    )
    connection.execute(
        text(
            "UPDATE bus_set_aside SET state = 'retrying', due_at = :now WHERE consumer = :c AND sequence ="
            " (SELECT min(sequence) FROM bus_set_aside WHERE consumer = :c AND subject = :s AND state = 'waiting')"
        ),
        {"now": stamp(context.now), "c": held.consumer, "s": held.subject},
    )
    event_id = event_id_of(held)
    context.events.publish(
        DeadLetterDropped(event_id=event_id, consumer=held.consumer, sequence=held.sequence, reason=reason)
    )
    return held


def event_id_of(held: HeldEvent) -> str:
    """The id of what is set aside, or its place in the log where it came without one."""
    found = document(held.sequence, held.envelope).get("id")
    return found if isinstance(found, str) and 1 <= len(found) <= MAX_ID_CHARACTERS else f"sequence-{held.sequence}"


def find(context: Context, dead_id: int) -> HeldEvent:
    """The dead letter (or what is retried by itself) of an id; raises ``dead_letter_not_found``."""
    for held in heads(context):
        if held.id == dead_id:
            return held
    raise NotFound(
        "dead_letter_not_found",
        f"There is no dead letter {dead_id}.",
        hint="Run `popug events dead` for all of them.",
        details={"dead_id": dead_id},
    )

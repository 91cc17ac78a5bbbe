"""Retry or drop dead letters, and events that wait for a retry, on the operator's request."""

from collections.abc import Sequence

from popug_cli.bus.consumers import Consumer, drain
from popug_cli.bus.context import Context
from popug_cli.bus.queries import ParkedEvent, document, list_parked_events
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.errors import NotFound
from popug_cli.kernel.stored_values import InvalidStoredValue
from popug_cli.kernel.text import validate_reason
from popug_cli.messages.bus import DeadLetterDropped, DeadLetterRetried, RetryResult

MAX_ID_CHARACTERS = 64


def blocking_events(context: Context) -> list[ParkedEvent]:
    """Return the first parked event of each consumer and subject; later ones wait behind it."""
    return [event for event in list_parked_events(context) if event.state != "waiting"]


def retry(context: Context, consumers: Sequence[Consumer], dead_id: int | None) -> RetryResult:
    """Retry one dead letter, or all dead letters and pending retries, and the events that wait behind them.

    Publish ``dead_letter_retried`` for each. Raise ``dead_letter_not_found``, or ``InvalidStoredValue`` if an event is
    parked for a consumer that does not exist.
    """
    chosen = blocking_events(context) if dead_id is None else [find(context, dead_id)]
    by_name = {consumer.name: consumer for consumer in consumers}
    if unknown := next((event.consumer for event in chosen if event.consumer not in by_name), None):
        raise InvalidStoredValue(f"no consumer is called {unknown!r}")
    before = len(list_parked_events(context))
    still_dead = sum(_retry_one(event, by_name[event.consumer], context) for event in chosen)
    return RetryResult(retried=before - len(list_parked_events(context)), still_dead=still_dead)


def _retry_one(event: ParkedEvent, consumer: Consumer, context: Context) -> int:
    """Process the parked events of a dead letter's subject and publish the result; return 1 if one failed, else 0."""
    still_dead = drain(consumer, event.subject, context)
    done = all(blocking.id != event.id for blocking in blocking_events(context))
    event_id = event_id_of(event)
    context.events.publish(
        DeadLetterRetried(event_id=event_id, consumer=event.consumer, sequence=event.sequence, done=done)
    )
    return still_dead


def drop(context: Context, dead_id: int, reason: str) -> ParkedEvent:
    """Drop a dead letter permanently and return it; publish ``dead_letter_dropped``.

    It may also be an event that waits for a retry. ``reason`` replaces its error; the event that waits behind it is due
    at once. Raise ``invalid_reason`` or ``dead_letter_not_found``.
    """
    reason = validate_reason(reason, hint="Say in a sentence why: --reason '…'.", allow_hidden=True)
    event = find(context, dead_id)
    connection = context.connection
    connection.execute(
        "UPDATE bus_set_aside SET state = 'dropped', due_at = NULL, error = :reason WHERE id = :id",
        reason=reason,
        id=event.id,
    )
    connection.execute(
        "UPDATE bus_set_aside SET state = 'retrying', due_at = :now WHERE consumer = :consumer AND sequence ="
        " (SELECT min(sequence) FROM bus_set_aside"
        " WHERE consumer = :consumer AND subject = :subject AND state = 'waiting')",
        now=to_rfc3339(context.now),
        consumer=event.consumer,
        subject=event.subject,
    )
    event_id = event_id_of(event)
    context.events.publish(
        DeadLetterDropped(event_id=event_id, consumer=event.consumer, sequence=event.sequence, reason=reason)
    )
    return event


def event_id_of(event: ParkedEvent) -> str:
    """Return the id of a parked event, or ``sequence-N`` if it has no id of 1 to 64 characters."""
    event_id = document(event.sequence, event.envelope).get("id")
    return (
        event_id
        if isinstance(event_id, str) and 1 <= len(event_id) <= MAX_ID_CHARACTERS
        else f"sequence-{event.sequence}"
    )


def find(context: Context, dead_id: int) -> ParkedEvent:
    """Return the dead or retrying event with that id; raise ``dead_letter_not_found``."""
    for event in blocking_events(context):
        if event.id == dead_id:
            return event
    raise NotFound(
        "dead_letter_not_found",
        f"There is no dead letter {dead_id}.",
        hint="Run `popug events dead` for all of them.",
        details={"dead_id": dead_id},
    )

"""The tasks consumer: it applies changes of users first, then prices, then shuffles."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import cast

from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Context
from popug_cli.messages.base import Event
from popug_cli.messages.billing import TaskPriced
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.identity import UserDeactivated, UserReactivated, UserRegistered, UserRoleChanged
from popug_cli.messages.tasks import ShuffleRequested
from popug_cli.storage.engine import insert_many
from popug_cli.tasks import people, shuffles
from popug_cli.tasks.assignments import reassign_unassignable
from popug_cli.tasks.rules import Person

PersonEvent = UserRegistered | UserRoleChanged | UserDeactivated | UserReactivated


def consume(events: Sequence[Delivered[Event]], context: Context) -> None:
    """Apply changes of users and prices, then run the requested shuffles."""
    _update_people([cast(Delivered[PersonEvent], e) for e in events if isinstance(e.data, PersonEvent)], context)
    _update_prices([e.data for e in events if isinstance(e.data, TaskPriced)], context)
    for event in events:
        if isinstance(event.data, ShuffleRequested):
            shuffles.run_shuffle(cast(Delivered[ShuffleRequested], event), context)


def give_up(event: Delivered[Event], error: str, context: Context) -> bool:
    """Drop a shuffle request that failed, so that it never runs later; return False for any other event."""
    if not isinstance(event.data, ShuffleRequested):
        return False
    shuffles.fail(cast(Delivered[ShuffleRequested], event), error, context)
    return True


def apply_event(person: Person | None, event: Delivered[PersonEvent]) -> Person:
    """Return the person after an event; an event that was already applied changes nothing.

    Raises ``LookupError`` for a change of a user whose registration was not applied.
    """
    if person is not None and event.sequence <= person.last_sequence:
        return person
    match event.data:
        case UserRegistered(user_id=user_id, username=username, role=role):
            return person or Person(user_id, username, role, True, event.sequence)
        case UserRoleChanged(new_role=role):
            return replace(_known(person, event), role=role, last_sequence=event.sequence)
        case UserDeactivated():
            return replace(_known(person, event), active=False, last_sequence=event.sequence)
        case UserReactivated():
            return replace(_known(person, event), active=True, last_sequence=event.sequence)


def _known(person: Person | None, event: Delivered[PersonEvent]) -> Person:
    if person is None:
        raise LookupError(f"the registration of user {event.data.user_id} was not processed before")
    return person


def _update_people(events: Sequence[Delivered[PersonEvent]], context: Context) -> None:
    if not events:
        return
    before = people.load(context, {event.data.user_id for event in events})
    after, last_change = _apply_events(before, events)
    people.save(context, [person for user_id, person in after.items() if person != before.get(user_id)])
    changed = [p for user_id, p in after.items() if p.assignable != _was_assignable(before.get(user_id))]
    if changed:
        assert last_change is not None
        people.record_assignability(context, changed)
        reassign_unassignable(last_change, context)


def _apply_events(
    before: dict[str, Person], events: Iterable[Delivered[PersonEvent]]
) -> tuple[dict[str, Person], Delivered[Event] | None]:
    """Return the people after the events, and the last event that changed which of them are assignable."""
    after, last_change = dict(before), None
    for event in events:
        known = after.get(event.data.user_id)
        person = after[event.data.user_id] = apply_event(known, event)
        if person.assignable != _was_assignable(known):
            last_change = event
    return after, cast(Delivered[Event] | None, last_change)


def _was_assignable(person: Person | None) -> bool:
    return person is not None and person.assignable


def _update_prices(prices: Sequence[TaskPriced], context: Context) -> None:
    insert_many(
        context.connection,
        "UPDATE tasks_tasks SET fee_cents = ?, reward_cents = ? WHERE task_id = ? AND fee_cents IS NULL",
        [(price.fee_cents, price.reward_cents, price.task_id) for price in prices],
    )


CONSUMER = Consumer(
    "tasks",
    (UserRegistered, UserRoleChanged, UserDeactivated, UserReactivated, TaskPriced, ShuffleRequested),
    consume,
    give_up,
)

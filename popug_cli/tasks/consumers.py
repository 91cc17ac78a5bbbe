"""The consumer of tasks: in each batch it applies changes of users first, then prices, then runs the shuffles."""

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
from popug_cli.tasks import days, people, shuffles
from popug_cli.tasks.assignments import reassign_unassignable
from popug_cli.tasks.rules import Person

UserEvent = UserRegistered | UserRoleChanged | UserDeactivated | UserReactivated


def consume(events: Sequence[Delivered[Event]], context: Context) -> None:
    """Apply changes of users and prices, then run the requested shuffles."""
    user_events = [cast(Delivered[UserEvent], event) for event in events if isinstance(event.data, UserEvent)]
    if user_events:
        days.record_first_day(context.calendar.date_of(user_events[0].time), context)
        _update_people(user_events, context)
    _update_prices([event.data for event in events if isinstance(event.data, TaskPriced)], context)
    for event in events:
        if isinstance(event.data, ShuffleRequested):
            shuffles.run_shuffle(cast(Delivered[ShuffleRequested], event), context)


def give_up(event: Delivered[Event], error: str, context: Context) -> bool:
    """Drop a shuffle request that failed, so that it never runs later, and return True; else return False."""
    if not isinstance(event.data, ShuffleRequested):
        return False
    shuffles.fail(cast(Delivered[ShuffleRequested], event), error, context)
    return True


def apply_user_event(person: Person | None, event: Delivered[UserEvent]) -> Person:
    """Return the person after an event.

    An event that was already applied changes nothing, nor does the registration of a known person.

    Raise ``LookupError`` for a change of a user whose registration has not been applied.
    """
    if person is not None and event.sequence <= person.last_sequence:
        return person
    match event.data:
        case UserRegistered(user_id=user_id, username=username, role=role):
            return person or Person(user_id, username, role, True, event.sequence)
        case UserRoleChanged(new_role=role):
            return replace(_require_registered(person, event), role=role, last_sequence=event.sequence)
        case UserDeactivated():
            return replace(_require_registered(person, event), active=False, last_sequence=event.sequence)
        case UserReactivated():
            return replace(_require_registered(person, event), active=True, last_sequence=event.sequence)


def _require_registered(person: Person | None, event: Delivered[UserEvent]) -> Person:
    if person is None:
        raise LookupError(f"the registration of user {event.data.user_id} has not been processed")
    return person


def _update_people(events: Sequence[Delivered[UserEvent]], context: Context) -> None:
    old_people = people.load(context, {event.data.user_id for event in events})
    new_people, last_change = _apply_user_events(old_people, events)
    people.save(context, [person for user_id, person in new_people.items() if person != old_people.get(user_id)])
    switched = [
        person
        for user_id, person in new_people.items()
        if person.assignable != _was_assignable(old_people.get(user_id))
    ]
    if switched:
        assert last_change is not None
        people.record_assignability(context, switched)
        reassign_unassignable(last_change, context)


def _apply_user_events(
    old_people: dict[str, Person], events: Iterable[Delivered[UserEvent]]
) -> tuple[dict[str, Person], Delivered[Event] | None]:
    """Return the people after the events, and the last event that made one of them assignable or unassignable."""
    new_people, last_change = dict(old_people), None
    for event in events:
        old_person = new_people.get(event.data.user_id)
        new_person = new_people[event.data.user_id] = apply_user_event(old_person, event)
        if new_person.assignable != _was_assignable(old_person):
            last_change = event
    return new_people, cast(Delivered[Event] | None, last_change)


def _was_assignable(person: Person | None) -> bool:
    return person is not None and person.assignable


def _update_prices(prices: Sequence[TaskPriced], context: Context) -> None:
    context.connection.insert_many(
        "UPDATE tasks_tasks SET fee_cents = ?, reward_cents = ? WHERE task_id = ? AND fee_cents IS NULL",
        [(price.fee_cents, price.reward_cents, price.task_id) for price in prices],
    )


CONSUMER = Consumer(
    "tasks",
    (UserRegistered, UserRoleChanged, UserDeactivated, UserReactivated, TaskPriced, ShuffleRequested),
    consume,
    give_up,
)

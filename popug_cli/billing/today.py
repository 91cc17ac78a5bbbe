"""The part of the caller's day that billing knows: assignments, completions, money and roles, as its log has them."""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, datetime, time
from typing import Annotated

import msgspec

from popug_cli.billing.balances import usernames
from popug_cli.billing.days import open_business_date
from popug_cli.billing.rules import REVERSALS
from popug_cli.bus.context import Context
from popug_cli.messages.base import Event
from popug_cli.messages.billing import EntryKind, EntryPosted, PayoutMade
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.identity import UserRoleChanged
from popug_cli.messages.internal.billing import (
    ListOwnActivities,
    ListRoleChanges,
    OwnActivities,
    OwnActivity,
    RoleChange,
    RoleChanges,
)
from popug_cli.messages.tasks import TaskAssigned
from popug_cli.messages.today import ActivityKind
from popug_cli.messages.upcasters import versions

MAX_SCANNED_POSITIONS = 200_000
BATCH_EVENTS = 1_000
ACTIVITY_EVENTS = (TaskAssigned, EntryPosted, PayoutMade)


class Timed(msgspec.Struct, frozen=True):
    """The time of an event, as its envelope has it."""

    time: Annotated[datetime, msgspec.Meta(tz=True)]


def list_own_activities(message: ListOwnActivities, context: Context) -> OwnActivities:
    """Return the caller's last activities, oldest first; only the last ``MAX_SCANNED_POSITIONS`` are searched."""
    since, after = _start(message, context)
    after = max(after, context.position - MAX_SCANNED_POSITIONS)
    total, latest = 0, deque[OwnActivity](maxlen=message.limit)
    for event in _my_events(after, context):
        if (activity := _activity(event, context.principal.user_id)) is not None:
            total += 1
            latest.append(activity)
    names = usernames({activity.assignee for activity in latest if activity.assignee}, context)
    shown = [_finished(activity, names, context) for activity in latest]
    return OwnActivities(since, after, context.position, total, shown)


def list_role_changes(message: ListRoleChanges, context: Context) -> RoleChanges:
    """Return the changes of the caller's role after a position in the log, oldest first."""
    events = context.log.by_subject(context.principal.user_id, UserRoleChanged)
    changes = [
        RoleChange(event.sequence, event.time, event.actor, event.data.new_role)
        for event in events
        if event.sequence > message.after and isinstance(event.data, UserRoleChanged)
    ]
    return RoleChanges(changes)


def _start(message: ListOwnActivities, context: Context) -> tuple[datetime, int]:
    """Return the instant since which, and the log position after which, activities are listed."""
    since = message.since or context.calendar.first_instant_of(context.calendar.date_of(context.now), time())
    if message.after is None or message.after > context.position:
        return since, _position_before(since, context)
    return since, message.after


def _position_before(instant: datetime, context: Context) -> int:
    """Return the position of the last event before `instant`, by binary search.

    The log is ordered by time, except where a clock was set back.
    """
    low, high = 0, context.position
    while low < high:
        middle = (low + high + 1) // 2
        time_found = _time_from(middle, context)
        if time_found is not None and time_found < instant:
            low = middle
        else:
            high = middle - 1
    return low


def _time_from(sequence: int, context: Context) -> datetime | None:
    """Return the time of the first event from `sequence` on that has a valid one, or None."""
    while (row := context.log.first_from(sequence)) is not None:
        with suppress(msgspec.MsgspecError):
            return msgspec.json.decode(row[-1], type=Timed).time
        sequence = row[0] + 1
    return None


def _my_events(after: int, context: Context) -> Iterator[Delivered[Event]]:
    """Yield the events after a position that contain the caller's id."""
    me = context.principal.user_id
    types = [version.TYPE for kind in ACTIVITY_EVENTS for version in versions(kind)]
    while rows := context.log.after(after, types, BATCH_EVENTS):
        yield from context.log.decode_known([row for row in rows if me in row[-1]])
        after = rows[-1][0]


def _activity(event: Delivered[Event], me: str) -> OwnActivity | None:
    """Return the activity of an event, with the id of the assignee, or None if the event is not the user's."""
    data = event.data
    match data:
        case TaskAssigned() if me in {data.assignee_id, data.previous_assignee_id}:
            what = _assignment_kind(data, me)
            return OwnActivity(
                sequence=event.sequence,
                at=event.time,
                what=what,
                actor=event.actor,
                task_id=data.task_id,
                assignee=data.assignee_id if what is ActivityKind.TAKEN else None,
                shuffle_id=data.shuffle_id,
                business_date=event.business_date,
            )
        case EntryPosted(user_id=owner, task_id=str()) if owner == me:
            return _entry(event, data)
        case PayoutMade(user_id=owner) if owner == me:
            return _money(event, ActivityKind.PAID, -data.amount_cents, data.business_date)
    return None


def _assignment_kind(assigned: TaskAssigned, me: str) -> ActivityKind:
    if assigned.assignee_id != me:
        return ActivityKind.TAKEN
    return ActivityKind.KEPT if assigned.previous_assignee_id == me else ActivityKind.GIVEN


def _entry(event: Delivered[Event], entry: EntryPosted) -> OwnActivity | None:
    """Return the activity of a reward or a correction; other entries have an event of their own."""
    if entry.kind is EntryKind.REWARD:
        return _money(event, ActivityKind.COMPLETED, entry.amount_cents, entry.business_date, entry.task_id)
    if entry.kind in REVERSALS.values():
        signed_cents = entry.kind.balance_sign * entry.amount_cents
        return _money(event, ActivityKind.CORRECTED, signed_cents, entry.business_date, entry.task_id)
    return None


def _money(
    event: Delivered[Event], what: ActivityKind, signed_cents: int, business_date: date, task_id: str | None = None
) -> OwnActivity:
    return OwnActivity(
        sequence=event.sequence,
        at=event.time,
        what=what,
        actor=event.actor,
        task_id=task_id,
        signed_cents=signed_cents,
        business_date=business_date,
    )


def _finished(activity: OwnActivity, names: dict[str, str], context: Context) -> OwnActivity:
    """Return an activity with the name of its assignee, and the date that its money counts for if that is later."""
    if activity.what is ActivityKind.TAKEN:
        return msgspec.structs.replace(activity, assignee=names[activity.assignee or ""], business_date=None)
    if activity.what is ActivityKind.PAID:
        return msgspec.structs.replace(activity, business_date=None)
    day = activity.business_date or open_business_date(activity.at, context)
    is_later = day > context.calendar.date_of(context.now)
    return msgspec.structs.replace(activity, business_date=day if is_later else None)

"""The caller's day: open tasks, balance and recent activities."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Annotated, cast

import msgspec

from popug_cli.billing.days import open_business_date
from popug_cli.billing.queries import get_balance, get_income
from popug_cli.billing.rules import REVERSALS
from popug_cli.bus.context import Context
from popug_cli.mail.outbox import count_failed
from popug_cli.messages.base import ACCOUNTING, Event, Role
from popug_cli.messages.billing import EntryKind, EntryPosted, GetBalance, GetIncome, PayoutMade, TaskRef
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.identity import UserRoleChanged
from popug_cli.messages.principal import Principal
from popug_cli.messages.tasks import ListTasks, Task, TaskAssigned, TaskPage, TaskSort
from popug_cli.messages.today import Activity, ActivityKind, ShowToday, Today
from popug_cli.tasks.people import anybody_assignable, usernames
from popug_cli.tasks.queries import list_tasks, tasks_by_id

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend

MAX_SHOWN_TASKS = 20
MAX_SHOWN_ACTIVITIES = 20
MAX_SCANNED_POSITIONS = 200_000
BATCH_EVENTS = 1_000
SUGGESTED_CLOSE_DAYS = 31
ACTIVITY_EVENTS = (TaskAssigned, EntryPosted, PayoutMade, UserRoleChanged)


class Timed(msgspec.Struct, frozen=True):
    """The time of an event, as its envelope has it."""

    time: Annotated[datetime, msgspec.Meta(tz=True)]


def show_today(backend: "LocalBackend", message: ShowToday, principal: Principal) -> Today:
    """Return the caller's day."""
    backend.catch_up()
    with backend.querying(principal) as context:
        balance = get_balance(GetBalance(), context)
        page = list_tasks(ListTasks(assignee=principal.username, sort=TaskSort.REWARD, limit=MAX_SHOWN_TASKS), context)
        since, after = _start_of_activities(message, context)
        failed = count_failed(context) if principal.role in ACCOUNTING else 0
        happened = [*_activities(after, context)]
        return Today(
            username=principal.username,
            role=cast(Role, principal.role),
            business_date=context.calendar.date_of(context.now),
            open_business_date=balance.business_date,
            balance_cents=balance.balance_cents,
            earned_today_cents=balance.earned_today_cents,
            tasks=page.tasks,
            open_count=page.total,
            fees_cents=page.fees_cents,
            rewards_cents=page.rewards_cents,
            since=since,
            happened=[_with_business_date(activity, context) for activity in happened[-MAX_SHOWN_ACTIVITIES:]],
            happened_count=len(happened),
            last_sequence=context.position,
            waiting=[*_suggested_commands(page, context, failed)],
            mail_failed=failed,
        )


def _start_of_activities(message: ShowToday, context: Context) -> tuple[datetime, int]:
    """Return the instant since which, and the log position after which, activities are shown."""
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


def _activities(after: int, context: Context) -> Iterator[Activity]:
    events = [*_my_events(after, context)]
    assigned = [event.data for event in events if isinstance(event.data, TaskAssigned)]
    posted = [event.data.task_id for event in events if isinstance(event.data, EntryPosted) and event.data.task_id]
    tasks = tasks_by_id([*{*(assignment.task_id for assignment in assigned), *posted}], context)
    names = usernames(context, {assignment.assignee_id for assignment in assigned})
    for event in events:
        if (activity := _activity(event, tasks, names, context)) is not None:
            yield activity


def _my_events(after: int, context: Context) -> Iterator[Delivered[Event]]:
    """Yield the events after `after` that contain the caller's id, at the last ``MAX_SCANNED_POSITIONS`` positions."""
    me, types = context.principal.user_id, [kind.TYPE for kind in ACTIVITY_EVENTS]
    after = max(after, context.position - MAX_SCANNED_POSITIONS)
    while rows := context.log.after(after, types, BATCH_EVENTS):
        yield from context.log.decode_known([row for row in rows if me in row[-1]])
        after = rows[-1][0]


def _activity(
    event: Delivered[Event], tasks: dict[str, Task], names: dict[str, str], context: Context
) -> Activity | None:
    me, data = context.principal.user_id, event.data
    match data:
        case TaskAssigned():
            kind = _assignment_kind(data, me)
            task = tasks.get(data.task_id)
            fee_cents = -task.fee_cents if task and task.fee_cents and kind is not ActivityKind.TAKEN else None
            assignee = names[data.assignee_id] if kind is ActivityKind.TAKEN else None
            activity = Activity(event.time, kind, event.actor, _task_ref(task), fee_cents, assignee, data.shuffle_id)
            return activity if me in {data.assignee_id, data.previous_assignee_id} else None
        case EntryPosted(user_id=owner, task_id=str(task_id)) if owner == me:
            return _entry(event, data, _task_ref(tasks.get(task_id)))
        case PayoutMade(user_id=owner) if owner == me:
            return Activity(event.time, ActivityKind.PAID, event.actor, signed_cents=-data.amount_cents)
        case UserRoleChanged(user_id=owner) if owner == me:
            return Activity(event.time, ActivityKind.ROLE_CHANGED, event.actor, role=data.new_role)
    return None


def _with_business_date(activity: Activity, context: Context) -> Activity:
    """Return the activity with the date that its money counts for, if that is after today."""
    if activity.signed_cents is None or activity.what is ActivityKind.PAID:
        return activity
    day = open_business_date(activity.at, context)
    if day <= context.calendar.date_of(context.now):
        return activity
    return msgspec.structs.replace(activity, business_date=day)


def _assignment_kind(assigned: TaskAssigned, me: str) -> ActivityKind:
    if assigned.assignee_id != me:
        return ActivityKind.TAKEN
    return ActivityKind.KEPT if assigned.previous_assignee_id == me else ActivityKind.GIVEN


def _entry(event: Delivered[Event], entry: EntryPosted, task: TaskRef | None) -> Activity | None:
    """Return the activity of a reward or a correction; other entries have an event of their own."""
    if entry.kind is EntryKind.REWARD:
        return Activity(event.time, ActivityKind.COMPLETED, event.actor, task, entry.amount_cents)
    if entry.kind in REVERSALS.values():
        signed_cents = entry.kind.balance_sign * entry.amount_cents
        return Activity(event.time, ActivityKind.CORRECTED, event.actor, task, signed_cents)
    return None


def _task_ref(task: Task | None) -> TaskRef | None:
    return TaskRef(task.number, task.title) if task else None


def _suggested_commands(page: TaskPage, context: Context, mail_failed: int) -> Iterable[str]:
    """Yield the commands that the user is likely to need next, the most urgent first."""
    role = context.principal.role
    if page.tasks:
        yield f"popug task complete {page.tasks[0].number}"
    if role in ACCOUNTING:
        yield from _suggest_closing(context)
    if mail_failed:
        yield "popug mail list --status failed"
    if not anybody_assignable(context):  # then a new task would be refused
        if role == Role.ADMIN:
            yield "popug user add NAME --email ADDRESS --role worker"
    elif not page.tasks:
        yield "popug task add TITLE"
    yield "popug tasks list --all"


def _suggest_closing(context: Context) -> Iterable[str]:
    """Suggest to close past days, or a dry run for today if there were rewards."""
    today = context.calendar.date_of(context.now)
    message = GetIncome(from_date=today - timedelta(days=SUGGESTED_CLOSE_DAYS), to_date=today)
    days = [day for day in get_income(message, context).days if not day.closed]
    if any(day.business_date < today for day in days):
        yield "popug close-day --date yesterday"
    elif any(day.rewards_cents for day in days):
        yield "popug close-day --dry-run"

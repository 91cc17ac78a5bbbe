"""The caller's day: open tasks, balance and recent activities."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import TYPE_CHECKING, cast

from popug_cli.app.asking import CompanySnapshot, ask_or_warn
from popug_cli.bus.status import unknown_version_problems
from popug_cli.messages.base import ACCOUNTING, Role
from popug_cli.messages.billing import GetBalance, GetIncome, TaskRef
from popug_cli.messages.internal.billing import (
    ListOwnActivities,
    ListRoleChanges,
    OwnActivities,
    OwnActivity,
    RoleChange,
)
from popug_cli.messages.internal.tasks import CheckAssignability, GetTasks
from popug_cli.messages.principal import Principal
from popug_cli.messages.tasks import ListTasks, Task, TaskPage, TaskSort
from popug_cli.messages.today import Activity, ActivityKind, ShowToday, Today

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend

MAX_SHOWN_TASKS = 20
MAX_SHOWN_ACTIVITIES = 20
SUGGESTED_CLOSE_DAYS = 31


def show_today(backend: "LocalBackend", message: ShowToday, principal: Principal) -> Today:
    """Return the caller's day."""
    backend.catch_up()
    with backend.asking(principal) as company:
        balance = company.ask(GetBalance())
        page = company.ask(ListTasks(assignee=principal.username, sort=TaskSort.REWARD, limit=MAX_SHOWN_TASKS))
        own = company.ask(ListOwnActivities(limit=MAX_SHOWN_ACTIVITIES, after=message.after, since=message.since))
        role_changes = company.ask(ListRoleChanges(after=own.after)).changes
        failed = _count_failed_mails(backend, company) if principal.role in ACCOUNTING else 0
        return Today(
            username=principal.username,
            role=cast(Role, principal.role),
            business_date=balance.today,
            open_business_date=balance.business_date,
            balance_cents=balance.balance_cents,
            earned_today_cents=balance.earned_today_cents,
            tasks=page.tasks,
            open_count=page.total,
            fees_cents=page.fees_cents,
            rewards_cents=page.rewards_cents,
            since=own.since,
            happened=_happened(own, role_changes, company),
            happened_count=own.total + len(role_changes),
            last_sequence=own.last_sequence,
            waiting=[*_suggested_commands(principal.role, page, company, balance.today, failed)],
            mail_failed=failed,
            problems=[*unknown_version_problems(company.context, backend.consumers)],
        )


def _count_failed_mails(backend: "LocalBackend", company: CompanySnapshot) -> int:
    from popug_cli.messages.internal.mail import CountMails

    counts = ask_or_warn(backend, company, CountMails(), "Whether mails have failed is not known.")
    return counts.failed if counts else 0


def _happened(own: OwnActivities, role_changes: list[RoleChange], company: CompanySnapshot) -> list[Activity]:
    """Return the last activities of both modules in the order of the log, with their tasks."""
    activities: list[OwnActivity | RoleChange] = [*own.activities, *role_changes]
    shown = sorted(activities, key=_sequence)[-MAX_SHOWN_ACTIVITIES:]
    task_ids = {activity.task_id for activity in own.activities if activity.task_id}
    tasks = {task.task_id: task for task in company.ask(GetTasks(task_ids=task_ids)).tasks} if task_ids else {}
    return [_shown(activity, tasks) for activity in shown]


def _sequence(activity: OwnActivity | RoleChange) -> int:
    return activity.sequence


def _shown(activity: OwnActivity | RoleChange, tasks: dict[str, Task]) -> Activity:
    """Return an activity with its task. An assignment charges the fee, unless it takes the task away."""
    if isinstance(activity, RoleChange):
        return Activity(activity.at, ActivityKind.ROLE_CHANGED, activity.actor, role=activity.role)
    task = tasks.get(activity.task_id or "")
    signed_cents = activity.signed_cents
    if activity.what in {ActivityKind.GIVEN, ActivityKind.KEPT} and task and task.fee_cents:
        signed_cents = -task.fee_cents
    return Activity(
        activity.at,
        activity.what,
        activity.actor,
        TaskRef(task.number, task.title) if task else None,
        signed_cents,
        activity.assignee,
        activity.shuffle_id,
        business_date=activity.business_date if signed_cents is not None else None,
    )


def _suggested_commands(
    role: Role | None, page: TaskPage, company: CompanySnapshot, today: date, mail_failed: int
) -> Iterable[str]:
    """Yield the commands that the user is likely to need next, the most urgent first."""
    if page.tasks:
        yield f"popug task complete {page.tasks[0].number}"
    if role in ACCOUNTING:
        yield from _suggest_closing(company, today)
    if mail_failed:
        yield "popug mail list --status failed"
    if not company.ask(CheckAssignability()).anybody:  # then a new task would be refused
        if role == Role.ADMIN:
            yield "popug user add NAME --email ADDRESS --role worker"
    elif not page.tasks:
        yield "popug task add TITLE"
    yield "popug tasks list --all"


def _suggest_closing(company: CompanySnapshot, today: date) -> Iterable[str]:
    """Suggest to close past days, or a dry run for today if there were rewards."""
    message = GetIncome(from_date=today - timedelta(days=SUGGESTED_CLOSE_DAYS), to_date=today)
    days = [day for day in company.ask(message).days if not day.closed]
    if any(day.business_date < today for day in days):
        yield "popug close-day --date yesterday"
    elif any(day.rewards_cents for day in days):
        yield "popug close-day --dry-run"

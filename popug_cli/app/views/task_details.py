"""A task with its history and its ledger entries."""

from typing import Any

from popug_cli.app.local_backend import LocalBackend
from popug_cli.billing.queries import list_task_entries
from popug_cli.bus.context import Context
from popug_cli.messages.base import ACCOUNTING, Event
from popug_cli.messages.billing import ListTaskEntries, TaskPriced
from popug_cli.messages.company import HistoryLine, ShowTask, TaskDetails
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.principal import Principal
from popug_cli.messages.tasks import GetTask, TaskAssigned, TaskCompleted, TaskCreated
from popug_cli.tasks.people import usernames
from popug_cli.tasks.queries import get_task

Names = dict[str, str]


def show_task(backend: LocalBackend, message: ShowTask, principal: Principal) -> TaskDetails:
    """Return a task, its history, and the entries that the principal may see; raise ``task_not_found``."""
    backend.catch_up()
    owner = None if principal.role in ACCOUNTING else principal.username
    with backend.querying(principal) as context:
        task = get_task(GetTask(number=message.number), context)
        entries = list_task_entries(ListTaskEntries(task_id=task.task_id, username=owner), context)
        return TaskDetails(task, _history(task.task_id, context), entries.entries)


def _history(task_id: str, context: Context) -> list[HistoryLine]:
    events = context.log.by_subject(task_id, TaskCreated, TaskAssigned, TaskPriced, TaskCompleted)
    names = usernames(context, {user_id for event in events for user_id in _user_ids(event.data)})
    return [_line(event, names) for event in events]


def _user_ids(event: Event) -> list[str]:
    fields = ("assignee_id", "previous_assignee_id")
    return [user_id for name in fields if (user_id := getattr(event, name, None))]


def _line(event: Delivered[Event], names: Names) -> HistoryLine:
    return HistoryLine(
        at=event.time, event=event.data.NAME, actor=event.actor, event_id=event.id, **_details_of(event.data, names)
    )


def _details_of(event: Event, names: Names) -> dict[str, Any]:
    """Return the fields of the event that a line of the history shows."""
    match event:
        case TaskAssigned():
            previous = event.previous_assignee_id
            return {
                "assignee": names[event.assignee_id],
                "previous_assignee": names[previous] if previous else None,
                "reason": event.reason.value,
                "shuffle_id": event.shuffle_id,
            }
        case TaskCreated() | TaskCompleted():
            return {"assignee": names[event.assignee_id]}
        case TaskPriced():
            return {"fee_cents": event.fee_cents, "reward_cents": event.reward_cents}
    raise AssertionError(event)

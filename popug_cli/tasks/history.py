"""The history of a task, from the log."""

from typing import Any

from popug_cli.bus.context import Context
from popug_cli.messages.base import Event
from popug_cli.messages.billing import TaskPriced
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.internal.tasks import ListTaskHistory, TaskHistory
from popug_cli.messages.tasks import HistoryLine, TaskAssigned, TaskCompleted, TaskCreated
from popug_cli.tasks.people import usernames

Names = dict[str, str]


def list_task_history(message: ListTaskHistory, context: Context) -> TaskHistory:
    """Return the events of a task, oldest first; empty if there is no such task."""
    events = context.log.by_subject(message.task_id, TaskCreated, TaskAssigned, TaskPriced, TaskCompleted)
    names = usernames(context, {user_id for event in events for user_id in _user_ids(event.data)})
    return TaskHistory([_line(event, names) for event in events])


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

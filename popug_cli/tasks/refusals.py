"""Why something cannot be done with a task: errors that say who, when and what next."""

from datetime import datetime
from typing import cast

from popug_cli.bus.runtime import Context
from popug_cli.kernel.clock import stamp
from popug_cli.kernel.errors import Conflict, NotAllowed, NotFound, PopugError
from popug_cli.kernel.text import visible
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.tasks import Task, TaskAssigned
from popug_cli.tasks.rules import MAX_NUMBER, quoted

WHAT_IS_MINE = "Run `popug tasks list` for what is yours and open."


def task_not_found(number: int) -> NotFound:
    """There is no task of that number."""
    return NotFound(
        "task_not_found",
        f"There is no task #{number}.",
        hint="Run `popug tasks list --all` for all there are.",
        details={"number": number if number <= MAX_NUMBER else str(number)},
    )


def user_not_found(username: str) -> NotFound:
    """There is nobody of that name."""
    return NotFound(
        "user_not_found",
        f"There is nobody called {quoted(username)}.",
        hint="Check the spelling; `popug tasks list --all` shows who has tasks.",
        details={"username": visible(username)},
    )


def shuffle_not_found(shuffle_id: str) -> NotFound:
    """There is no shuffle of that id."""
    return NotFound(
        "shuffle_not_found",
        f"There is no shuffle {quoted(shuffle_id)}.",
        hint="`popug task show NUMBER` names the shuffles of a task.",
        details={"shuffle_id": visible(shuffle_id)},
    )


def nobody_assignable() -> Conflict:
    """There is nobody for chance to choose."""
    return Conflict(
        "nobody_assignable",
        "There is nobody to whom chance could assign a task.",
        hint="An admin can add somebody: `popug user add NAME --email ADDRESS --role worker`.",
    )


def completed(task: Task, context: Context) -> Conflict:
    """Somebody was faster."""
    assert task.completed_at is not None
    return Conflict(
        "task_completed",
        f"#{task.number} was completed by {task.assignee} at {_local(task.completed_at, context)}.",
        hint=WHAT_IS_MINE,
        details={"number": task.number, "assignee": task.assignee, "completed_at": stamp(task.completed_at)},
    )


def not_mine(task: Task, context: Context) -> PopugError:
    """The task is somebody else's: it was taken from the one who asks, or never theirs."""
    taken = _taken(task, context)
    if taken is not None:
        return _reassigned(task, taken, context)
    return NotAllowed(
        "not_your_task",
        f"#{task.number} is not yours; it is {task.assignee}'s.",
        hint=WHAT_IS_MINE,
        details={"number": task.number, "assignee": task.assignee},
    )


def _reassigned(task: Task, taken: Delivered[TaskAssigned], context: Context) -> Conflict:
    shuffle_id, when = taken.data.shuffle_id, _local(taken.time, context)
    how = f"shuffle {shuffle_id} took it from you" if shuffle_id else "it was taken when you could not hold tasks"
    return Conflict(
        "task_reassigned",
        f"#{task.number} is not yours any more; it is {task.assignee}'s: {how} at {when}.",
        hint=WHAT_IS_MINE,
        details={
            "number": task.number,
            "assignee": task.assignee,
            "shuffle_id": shuffle_id,
            "reason": taken.data.reason,
            "reassigned_at": stamp(taken.time),
        },
    )


def _taken(task: Task, context: Context) -> Delivered[TaskAssigned] | None:
    """The last assignment that took the task from the one who asks."""
    me = context.principal.user_id
    for event in reversed(context.log.of_subject(task.task_id, TaskAssigned)):
        assigned = cast(Delivered[TaskAssigned], event)
        if assigned.data.previous_assignee_id == me != assigned.data.assignee_id:
            return assigned
    return None


def _local(instant: datetime, context: Context) -> str:
    return f"{context.calendar.local(instant):%Y-%m-%d %H:%M:%S}"

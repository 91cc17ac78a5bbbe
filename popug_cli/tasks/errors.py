"""Tasks' errors: each names the users and times that explain it, and gives a hint."""

from datetime import datetime
from typing import cast

from popug_cli.bus.context import Context
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.errors import Conflict, NotAllowed, NotFound, PopugError
from popug_cli.kernel.text import counted, escape_hidden
from popug_cli.messages.base import Role
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.tasks import Task, TaskAssigned
from popug_cli.tasks.rules import MAX_NUMBER, quoted

LIST_OWN_TASKS = "Run `popug tasks list` to see your open tasks."


def task_not_found(number: int) -> NotFound:
    """Return the error for an unknown task number."""
    return NotFound(
        "task_not_found",
        f"There is no task #{number}.",
        hint="Run `popug tasks list --all` to see all tasks.",
        details={"number": number if number <= MAX_NUMBER else str(number)},
    )


def user_not_found(username: str) -> NotFound:
    """Return the error for an unknown username."""
    return NotFound(
        "user_not_found",
        f"There is no user called {quoted(username)}.",
        hint="Check the spelling; `popug tasks list --all` shows who has tasks.",
        details={"username": escape_hidden(username)},
    )


def shuffle_not_found(shuffle_id: str) -> NotFound:
    """Return the error for an unknown shuffle id."""
    return NotFound(
        "shuffle_not_found",
        f"There is no shuffle {quoted(shuffle_id)}.",
        hint="`popug task show NUMBER` names the shuffles of a task.",
        details={"shuffle_id": escape_hidden(shuffle_id)},
    )


def nobody_assignable() -> Conflict:
    """Return the error for a draw without candidates."""
    return Conflict(
        "nobody_assignable",
        "There is no user to whom a task can be assigned.",
        hint="An admin can add a worker: `popug user add NAME --email ADDRESS --role worker`.",
    )


def import_too_large(limit: int, role: Role | None) -> NotAllowed:
    """Return the error for an import with more lines than the caller's role may import at once."""
    who = f"{'an' if role is Role.ACCOUNTANT else 'a'} {role}"
    most = f"more than {counted(limit, 'task')} at once" if limit else "tasks"
    return NotAllowed(
        "forbidden",
        f"In this company {who} may not import {most}.",
        hint="Nothing was imported. Ask a manager or an admin to import the file, or import a part of it; the operator"
        " may raise the limit with `popug config set tasks.import_limit NUMBER`.",
        details={"limit": limit},
    )


def already_completed(task: Task, context: Context) -> Conflict:
    """Return the error for a task that is already completed."""
    assert task.completed_at is not None
    return Conflict(
        "task_completed",
        f"#{task.number} was completed by {task.assignee} at {_local(task.completed_at, context)}.",
        hint=LIST_OWN_TASKS,
        details={"number": task.number, "assignee": task.assignee, "completed_at": to_rfc3339(task.completed_at)},
    )


def not_assignee(task: Task, context: Context) -> PopugError:
    """Return the error for another user's task: it was reassigned, or never the caller's."""
    reassignment = _reassignment(task, context)
    if reassignment is not None:
        return _reassigned(task, reassignment, context)
    return NotAllowed(
        "not_your_task",
        f"#{task.number} is not yours; it is {task.assignee}'s.",
        hint=LIST_OWN_TASKS,
        details={"number": task.number, "assignee": task.assignee},
    )


def _reassigned(task: Task, reassignment: Delivered[TaskAssigned], context: Context) -> Conflict:
    shuffle_id, local_time = reassignment.data.shuffle_id, _local(reassignment.time, context)
    cause = f"shuffle {shuffle_id} reassigned it" if shuffle_id else "it was reassigned when you could not hold tasks"
    return Conflict(
        "task_reassigned",
        f"#{task.number} is not yours any more; it is {task.assignee}'s: {cause} at {local_time}.",
        hint=LIST_OWN_TASKS,
        details={
            "number": task.number,
            "assignee": task.assignee,
            "shuffle_id": shuffle_id,
            "reason": reassignment.data.reason,
            "reassigned_at": to_rfc3339(reassignment.time),
        },
    )


def _reassignment(task: Task, context: Context) -> Delivered[TaskAssigned] | None:
    """Return the last assignment that moved the task from the caller to another user, or None."""
    caller_id = context.principal.user_id
    for event in reversed(context.log.by_subject(task.task_id, TaskAssigned)):
        assigned = cast(Delivered[TaskAssigned], event)
        if assigned.data.previous_assignee_id == caller_id != assigned.data.assignee_id:
            return assigned
    return None


def _local(instant: datetime, context: Context) -> str:
    return f"{context.calendar.local(instant):%Y-%m-%d %H:%M:%S}"

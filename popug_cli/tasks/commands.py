"""What may be done with tasks."""

from sqlalchemy import text

from popug_cli.bus.runtime import Context
from popug_cli.kernel.clock import stamp
from popug_cli.messages.base import Imported
from popug_cli.messages.tasks import (
    AddTask,
    CompleteTask,
    GetShuffle,
    GetTask,
    ImportTasks,
    ShuffleRequested,
    ShuffleTasks,
    Task,
    TaskCompleted,
    TaskStatus,
)
from popug_cli.storage.engine import insert_many, scalar
from popug_cli.tasks import people, refusals, rules, shuffles
from popug_cli.tasks.assignments import has_open_tasks
from popug_cli.tasks.creation import create
from popug_cli.tasks.queries import get_task


def add_task(message: AddTask, context: Context) -> GetTask:
    """Create a task; chance assigns it. Raises ``nobody_assignable``."""
    titled = rules.read_title(message.title, message.jira_id)
    (number,) = create([titled], context)
    return GetTask(number=number)


def complete_task(message: CompleteTask, context: Context) -> GetTask:
    """Complete an open task of one's own; raises ``task_completed``, ``task_reassigned`` or ``not_your_task``."""
    task = get_task(GetTask(number=message.number), context)
    me = context.principal.user_id
    if task.status is TaskStatus.COMPLETED:
        raise refusals.completed(task, context)
    if _holder(task, context) != me:
        raise refusals.not_mine(task, context)
    _complete(task, context)
    context.events.publish(TaskCompleted(task_id=task.task_id, assignee_id=me, completed_at=context.now))
    return GetTask(number=task.number)


def shuffle_tasks(message: ShuffleTasks, context: Context) -> GetShuffle:
    """Ask for a shuffle, which tasks itself carries out; raises ``nobody_assignable`` where that is sure to fail."""
    if has_open_tasks(context) and not people.assignable(context):
        raise refusals.nobody_assignable()
    shuffle_id, requested_by = context.events.new_id(), context.principal.user_id
    shuffles.note_request(shuffle_id, requested_by, context.now, context)
    context.events.publish(ShuffleRequested(shuffle_id=shuffle_id, requested_by=requested_by))
    return GetShuffle(shuffle_id=shuffle_id)


def import_tasks(message: ImportTasks, context: Context) -> Imported:
    """Create the tasks of a file, all or none; a line that was imported before is skipped."""
    lines = rules.read_lines(message.lines)
    titles: dict[str, rules.Titled] = {}
    for line in lines:
        titles.setdefault(line.identity, line.titled)
    known = _imported_before([*titles], context)
    fresh = {identity: titled for identity, titled in titles.items() if identity not in known}
    if fresh:
        _remember_import([*fresh], create([*fresh.values()], context), context)
    return Imported(imported=len(fresh), skipped=len(lines) - len(fresh))


def _imported_before(identities: list[str], context: Context) -> set[str]:
    statement = "SELECT identity FROM tasks_imported WHERE identity IN :values"
    return {row.identity for row in people.look_up(context, statement, identities)}


def _remember_import(identities: list[str], numbers: range, context: Context) -> None:
    insert_many(
        context.connection,
        "INSERT INTO tasks_imported (identity, number) VALUES (?, ?)",
        [*zip(identities, numbers, strict=True)],
    )


def _holder(task: Task, context: Context) -> str:
    statement = "SELECT assignee_id FROM tasks_tasks WHERE number = :number"
    return str(scalar(context.connection, statement, number=task.number))


def _complete(task: Task, context: Context) -> None:
    changed = context.connection.execute(
        text(
            "UPDATE tasks_tasks SET status = 'completed', completed_at = :now"
            " WHERE number = :number AND status = 'open' AND assignee_id = :me"
        ),
        {"now": stamp(context.now), "number": task.number, "me": context.principal.user_id},
    )
    assert changed.rowcount == 1, "it was open and mine under the write lock"

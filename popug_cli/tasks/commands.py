"""What may be done with tasks."""

from collections import deque
from collections.abc import Iterable, Sequence

from sqlalchemy import text

from popug_cli.bus.runtime import Context
from popug_cli.kernel.batches import batched
from popug_cli.kernel.clock import stamp
from popug_cli.messages.base import Imported
from popug_cli.messages.tasks import (
    AddTask,
    CompleteTask,
    GetShuffle,
    GetTask,
    ImportTasks,
    NewTask,
    ShuffleRequested,
    ShuffleTasks,
    Task,
    TaskCompleted,
    TaskStatus,
)
from popug_cli.storage.engine import insert_many, scalar, select_among
from popug_cli.storage.tally import tally
from popug_cli.tasks import people, refusals, rules, shuffles
from popug_cli.tasks.assignments import TASKS_AT_ONCE, has_open_tasks
from popug_cli.tasks.creation import create, lot_for_new_tasks
from popug_cli.tasks.queries import get_task


def add_task(message: AddTask, context: Context) -> GetTask:
    """Create a task; chance assigns it. Raises ``nobody_assignable``."""
    titled = rules.read_title(message.title, message.jira_id)
    (number,) = create([titled], lot_for_new_tasks(context), context)
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
    lines, read, imported, lot = message.lines, 0, 0, None
    _check(lines)
    with tally() as times_seen:
        for portion in batched(rules.read_lines(lines, times_seen), TASKS_AT_ONCE):
            fresh = _fresh(portion, context)
            if fresh:
                lot = lot or lot_for_new_tasks(context)
                _remember_import(fresh, create(fresh.values(), lot, context), context)
            read += len(portion)
            imported += len(fresh)
            context.progress("Creating tasks", read, len(lines))
    return Imported(imported=imported, skipped=read - imported)


def _check(lines: Iterable[NewTask | None]) -> None:
    """Refuse a bad line before the work on good ones, which may take minutes."""
    deque(rules.read_lines(lines, lambda _: 1), maxlen=0)


def _fresh(lines: Sequence[rules.ImportLine], context: Context) -> dict[str, rules.Titled]:
    """Those of the lines that were not imported before, in this file or in another, by identity."""
    titles: dict[str, rules.Titled] = {}
    for line in lines:
        titles.setdefault(line.identity, line.titled)
    statement = "SELECT identity FROM tasks_imported WHERE identity IN"
    for (known,) in select_among(context.connection, statement, [*titles]):
        del titles[known]
    return titles


def _remember_import(identities: Iterable[str], numbers: range, context: Context) -> None:
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

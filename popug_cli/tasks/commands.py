"""Tasks' commands: add, import, complete, and request a shuffle."""

from collections import deque
from collections.abc import Iterable, Sequence

from popug_cli.bus.context import Context
from popug_cli.kernel.batches import batched
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.messages.base import ImportResult
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
from popug_cli.storage.disk_counter import count_on_disk
from popug_cli.tasks import errors, people, rules, shuffles
from popug_cli.tasks.assignments import TASKS_AT_ONCE, has_open_tasks
from popug_cli.tasks.creation import create, draw_for_new_tasks
from popug_cli.tasks.queries import get_task


def add_task(message: AddTask, context: Context) -> GetTask:
    """Create a task and draw its assignee.

    Raise ``invalid_title``, ``invalid_jira_id`` or ``nobody_assignable``.
    """
    parsed_title = rules.parse_title(message.title, message.jira_id)
    (number,) = create([parsed_title], draw_for_new_tasks(context), context)
    return GetTask(number=number)


def complete_task(message: CompleteTask, context: Context) -> GetTask:
    """Complete an open task of the caller.

    Raise ``task_not_found``, ``task_completed``, ``task_reassigned`` or ``not_your_task``.
    """
    task = get_task(GetTask(number=message.number), context)
    caller_id = context.principal.user_id
    if task.status is TaskStatus.COMPLETED:
        raise errors.already_completed(task, context)
    if _assignee_id(task, context) != caller_id:
        raise errors.not_assignee(task, context)
    _complete(task, context)
    context.events.publish(TaskCompleted(task_id=task.task_id, assignee_id=caller_id, completed_at=context.now))
    return GetTask(number=task.number)


def shuffle_tasks(message: ShuffleTasks, context: Context) -> GetShuffle:
    """Request a shuffle, which the consumer of tasks runs later.

    Raise ``nobody_assignable`` if there are open tasks but no candidates, because the shuffle would fail.
    """
    if has_open_tasks(context) and not people.assignable(context):
        raise errors.nobody_assignable()
    shuffle_id, requested_by = context.events.new_id(), context.principal.user_id
    shuffles.record_request(shuffle_id, requested_by, context.now, context)
    context.events.publish(ShuffleRequested(shuffle_id=shuffle_id, requested_by=requested_by))
    return GetShuffle(shuffle_id=shuffle_id)


def import_tasks(message: ImportTasks, context: Context) -> ImportResult:
    """Create the tasks of a file, all or none, and skip the lines that were imported before.

    Raise ``nobody_assignable``, or the error of the first bad line: ``invalid_title``, ``invalid_jira_id`` or
    ``invalid_task_id``.
    """
    lines, read_count, imported_count, draw = message.lines, 0, 0, None
    _check_lines(lines)
    with count_on_disk() as times_seen:
        for chunk in batched(rules.parse_import_lines(lines, times_seen), TASKS_AT_ONCE):
            new_titles = _not_imported(chunk, context)
            if new_titles:
                draw = draw or draw_for_new_tasks(context)
                _record_import(new_titles, create(new_titles.values(), draw, context), context)
            read_count += len(chunk)
            imported_count += len(new_titles)
            context.progress("Creating tasks", read_count, len(lines))
    return ImportResult(imported=imported_count, skipped=read_count - imported_count)


def _check_lines(lines: Iterable[NewTask | None]) -> None:
    """Raise the error of the first bad line before any task is created: creating many takes minutes."""
    deque(rules.parse_import_lines(lines, lambda _: 1), maxlen=0)


def _not_imported(lines: Sequence[rules.ImportLine], context: Context) -> dict[str, rules.ParsedTitle]:
    """Return the titles of the lines that were not imported before, in this file or another, by import key."""
    titles: dict[str, rules.ParsedTitle] = {}
    for line in lines:
        titles.setdefault(line.import_key, line.parsed_title)
    statement = "SELECT identity FROM tasks_imported WHERE identity IN"
    for (import_key,) in context.connection.select_in(statement, [*titles]):
        del titles[import_key]
    return titles


def _record_import(import_keys: Iterable[str], numbers: range, context: Context) -> None:
    context.connection.insert_many(
        "INSERT INTO tasks_imported (identity, number) VALUES (?, ?)",
        [*zip(import_keys, numbers, strict=True)],
    )


def _assignee_id(task: Task, context: Context) -> str:
    statement = "SELECT assignee_id FROM tasks_tasks WHERE number = :number"
    return str(context.connection.scalar(statement, number=task.number))


def _complete(task: Task, context: Context) -> None:
    changed = context.connection.execute(
        "UPDATE tasks_tasks SET status = 'completed', completed_at = :now"
        " WHERE number = :number AND status = 'open' AND assignee_id = :caller_id",
        now=to_rfc3339(context.now),
        number=task.number,
        caller_id=context.principal.user_id,
    )
    assert changed == 1, "under the write lock the task is still open and the caller's"

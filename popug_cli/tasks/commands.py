"""Tasks' commands: add, import, complete, and request a shuffle."""

from collections.abc import Iterable, Mapping

from popug_cli.bus.context import Context
from popug_cli.kernel.batches import batched
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.messages.base import SHUFFLERS
from popug_cli.messages.internal.changed_task import GetChangedTask
from popug_cli.messages.tasks import (
    AddTask,
    CompleteTask,
    GetShuffle,
    GetTask,
    ImportTasks,
    NewTask,
    ShuffleRequested,
    ShuffleTasks,
    TakenId,
    Task,
    TaskCompleted,
    TaskImportResult,
    TaskStatus,
)
from popug_cli.storage.disk_counter import count_on_disk
from popug_cli.tasks import days, errors, imports, people, rules, shuffles
from popug_cli.tasks.assignments import TASKS_AT_ONCE, has_open_tasks
from popug_cli.tasks.creation import create, draw_for_new_tasks, next_task
from popug_cli.tasks.queries import get_task

MAX_TAKEN = 100  # ids that the result of an import lists; it counts all
SELECT_ASSIGNEE_AND_ENDED = f"SELECT assignee_id, {days.LAST_ENDED} FROM tasks_tasks WHERE number = :number"


def add_task(message: AddTask, context: Context) -> GetChangedTask:
    """Create a task and draw its assignee.

    Raise ``invalid_title``, ``invalid_jira_id`` or ``nobody_assignable``.
    """
    parsed_title = rules.parse_title(message.title, message.jira_id)
    task = next_task(context)
    create([parsed_title], task, draw_for_new_tasks(task.number, context), context)
    return GetChangedTask(number=task.number)


def complete_task(message: CompleteTask, context: Context) -> GetChangedTask:
    """Complete an open task of the caller.

    Raise ``task_not_found``, ``task_completed``, ``task_reassigned`` or ``not_your_task``.
    """
    task = get_task(GetTask(number=message.number), context)
    caller_id = context.principal.user_id
    if task.status is TaskStatus.COMPLETED:
        raise errors.already_completed(task, context)
    assignee_id, last_ended = context.connection.select_one(SELECT_ASSIGNEE_AND_ENDED, number=task.number) or ("", None)
    if assignee_id != caller_id:
        raise errors.not_assignee(task, context)
    _complete(task, context)
    context.events.publish(
        TaskCompleted(task_id=task.task_id, assignee_id=caller_id, completed_at=context.now),
        business_date=days.business_date_after(last_ended, context),
    )
    return GetChangedTask(number=task.number)


def shuffle_tasks(message: ShuffleTasks, context: Context) -> GetShuffle:
    """Request a shuffle, which the consumer of tasks runs later.

    Raise ``nobody_assignable`` if there are open tasks but no candidates, because the shuffle would fail.
    """
    if has_open_tasks(context) and not people.assignable(context):
        raise errors.nobody_assignable()
    shuffle_id, requested_by = context.events.new_id(), context.principal.user_id
    shuffles.record_request(shuffle_id, requested_by, context.now, context)
    request = ShuffleRequested(shuffle_id=shuffle_id, requested_by=requested_by)
    context.events.publish(request, business_date=days.business_date(context))
    return GetShuffle(shuffle_id=shuffle_id)


def import_tasks(message: ImportTasks, context: Context) -> TaskImportResult:
    """Create the tasks of a file, all or none, and skip the lines that were imported before, unless ``again``.

    Raise ``nobody_assignable``, ``forbidden`` if the caller may not import that many lines, or the error of the first
    bad line: ``invalid_title``, ``invalid_jira_id`` or ``invalid_task_id``.
    """
    lines, read_count, imported_count, draw = message.lines, 0, 0, None
    taken: list[TakenId] = []
    taken_count = 0
    _check_lines(lines, context)
    with count_on_disk() as times_seen:
        for chunk in batched(rules.parse_import_lines(lines, times_seen), TASKS_AT_ONCE):
            new_lines = imports.not_imported(chunk, context)
            lines_to_create = chunk if message.again else [*new_lines.values()]
            if lines_to_create:
                first = next_task(context)
                draw = draw or draw_for_new_tasks(first.number, context)
                numbers = create((line.parsed_title for line in lines_to_create), first, draw, context)
                _record_new(lines_to_create, numbers, new_lines, context)
            if len(lines_to_create) < len(chunk):
                taken_now = imports.find_taken(chunk, context)
                taken += taken_now[: MAX_TAKEN - len(taken)]
                taken_count += len(taken_now)
            read_count += len(chunk)
            imported_count += len(lines_to_create)
            context.progress("Creating tasks", read_count, len(lines))
    return TaskImportResult(imported_count, read_count - imported_count, tuple(taken), taken_count)


def _check_lines(lines: Iterable[NewTask | None], context: Context) -> None:
    """Raise the error of the first bad line before any task is created: creating many takes minutes.

    Raise ``forbidden`` at the first line beyond the limit of the caller's role.
    """
    is_limited = context.principal.role not in SHUFFLERS
    limit = context.settings.number("tasks.import_limit") if is_limited else None
    for count, _ in enumerate(rules.parse_import_lines(lines, lambda _: 1), start=1):
        if limit is not None and count > limit:
            raise errors.import_too_large(limit, context.principal.role)


def _record_new(
    lines: Iterable[rules.ImportLine], numbers: range, new_lines: Mapping[str, rules.ImportLine], context: Context
) -> None:
    """Record the created tasks whose import key is new; if several lines share a key, record the first."""
    created = reversed([*zip(lines, numbers, strict=True)])
    imports.record({line.import_key: number for line, number in created if line.import_key in new_lines}, context)


def _complete(task: Task, context: Context) -> None:
    changed = context.connection.execute(
        "UPDATE tasks_tasks SET status = 'completed', completed_at = :now"
        " WHERE number = :number AND status = 'open' AND assignee_id = :caller_id",
        now=to_rfc3339(context.now),
        number=task.number,
        caller_id=context.principal.user_id,
    )
    assert changed == 1, "under the write lock the task is still open and the caller's"

"""Tasks' queries: tasks, shuffles and their verification, and the fairness of draws."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec

from popug_cli.bus.context import Context
from popug_cli.bus.unlinked_events import unlinked_positions
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.draws import ALGORITHM
from popug_cli.kernel.errors import IntegrityViolation, InternalError, Unavailable
from popug_cli.kernel.text import counted
from popug_cli.messages.base import MAX_ANSWER_ROWS, page_bounds
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.internal.changed_task import GetChangedTask
from popug_cli.messages.tasks import (
    ChangedTask,
    ExportTasks,
    Fairness,
    GetFairness,
    GetShuffle,
    GetTask,
    ListTasks,
    PersonFairness,
    Shuffle,
    ShuffleCheck,
    StatusFilter,
    Task,
    TaskAssigned,
    TaskChunk,
    TaskPage,
    TaskSort,
    TasksShuffled,
    VerifyShuffle,
    WrongDraw,
)
from popug_cli.storage.id_index import equal_ids
from popug_cli.tasks import days, errors, people, rules, shuffles
from popug_cli.tasks.fairness import CandidatePool, chi_squared_test

_SELECT_TASKS = (
    "SELECT task.task_id, task.number, task.title, task.jira_id, task.status,"
    " coalesce(creator.username, task.creator_id) AS creator, assignee.username AS assignee,"
    " task.fee_cents, task.reward_cents, task.created_at, task.completed_at FROM tasks_tasks AS task"
    " JOIN tasks_people AS assignee ON assignee.user_id = task.assignee_id"
    " LEFT JOIN tasks_people AS creator ON creator.user_id = task.creator_id"
)


def get_task(message: GetTask, context: Context) -> Task:
    """Return one task. Raise ``task_not_found``."""
    is_storable = 1 <= message.number <= rules.MAX_NUMBER
    tasks = _tasks("task.number = :number", {"number": message.number}, context) if is_storable else []
    if not tasks:
        raise errors.task_not_found(message.number)
    return tasks[0]


def get_changed_task(message: GetChangedTask, context: Context) -> ChangedTask:
    """Return a task after a command that moves money. Raise ``task_not_found``."""
    task = get_task(GetTask(number=message.number), context)
    counts_for = days.date_of_money(context)
    is_today = counts_for == context.calendar.date_of(context.now)
    return ChangedTask(**msgspec.structs.asdict(task), counts_for=None if is_today else counts_for)


def list_tasks(message: ListTasks, context: Context) -> TaskPage:
    """Return a page of the tasks that match every filter, and totals over all matching tasks.

    A page has at most ``MAX_ANSWER_ROWS`` tasks.
    Raise ``user_not_found``, ``invalid_jira_id`` or ``invalid_search``.
    """
    where, values = _filter(message, context)
    statement = f"SELECT count(*), sum(task.fee_cents), sum(task.reward_cents) FROM tasks_tasks AS task WHERE {where}"
    [(total, fees_cents, rewards_cents)] = context.connection.select(statement, **values)
    values |= page_bounds(message.limit, message.offset)
    tasks = _tasks(f"{where} ORDER BY {_order(message)} LIMIT :limit OFFSET :offset", values, context)
    return TaskPage(tasks, total, fees_cents or 0, rewards_cents or 0)


def tasks_by_id(task_ids: Sequence[str], context: Context) -> list[Task]:
    """Return the existing tasks among ``task_ids``, in no order."""
    rows = context.connection.records_in(f"{_SELECT_TASKS} WHERE task.task_id IN", task_ids)
    return [msgspec.convert(row, Task, strict=False) for row in rows]


def export_tasks(message: ExportTasks, context: Context) -> TaskChunk:
    """Return the next tasks after a number, at most ``limit`` and ``MAX_ANSWER_ROWS``, by number."""
    values = {"after": message.after, "limit": min(message.limit, MAX_ANSWER_ROWS)}
    return TaskChunk(_tasks("task.number > :after ORDER BY task.number LIMIT :limit", values, context))


def get_shuffle(message: GetShuffle, context: Context) -> Shuffle:
    """Return the result of a shuffle.

    Raise ``shuffle_not_found``, ``shuffle_failed``, or ``in_doubt`` if the request has not been processed yet.
    """
    row = _shuffle(message.shuffle_id, context)
    if row.state == "failed":
        raise InternalError(
            "shuffle_failed",
            f"The shuffle failed and was dropped: {row.error}.",
            hint="Nothing was changed; try `popug tasks shuffle` again.",
            details={"shuffle_id": row.shuffle_id, "error": row.error},
        )
    if row.state == "requested":
        raise Unavailable(
            "in_doubt",
            f"Shuffle {row.shuffle_id} was requested and is not done yet.",
            hint="The next command continues it; do not request another one.",
            details={"shuffle_id": row.shuffle_id},
        )
    return Shuffle(row.shuffle_id, row.task_count, row.candidates_count)


def verify_shuffle(message: VerifyShuffle, context: Context) -> ShuffleCheck:
    """Repeat the draws of a shuffle from the log, and return those that differ.

    Raise the errors of ``get_shuffle``. Raise ``integrity`` if the draws cannot be repeated, or if the log, the stored
    shuffle and the recorded candidates contradict each other.
    """
    result = get_shuffle(GetShuffle(shuffle_id=message.shuffle_id), context)
    row = _shuffle(message.shuffle_id, context)
    shuffled = _shuffle_event(row.shuffle_id, result, context)
    candidates = people.assignable_as_of(context, shuffled.draw.candidates_as_of)
    if len(candidates) != shuffled.candidates_count:
        raise _not_verifiable(
            row.shuffle_id,
            f"it had {counted(shuffled.candidates_count, 'candidate')}, but the records have {len(candidates)}",
        )
    checked_count, wrong_draws = 0, []
    for event in context.log.between(row.first_sequence or 1, row.last_sequence or 0, TaskAssigned):
        assigned = cast(Delivered[TaskAssigned], event).data
        expected = rules.draw_assignee(shuffled.draw.seed, assigned.task_id, candidates)
        checked_count += assigned.shuffle_id == row.shuffle_id
        if (assigned.assignee_id, assigned.draw) != (expected, shuffled.draw):
            wrong_draws.append((assigned.task_id, assigned.assignee_id, expected))
    if checked_count != shuffled.task_count:
        raise _not_verifiable(
            row.shuffle_id, f"the log has {checked_count} of its {counted(shuffled.task_count, 'assignment')}"
        )
    return ShuffleCheck(row.shuffle_id, checked_count, _wrong_draws(wrong_draws, context))


def get_fairness(message: GetFairness, context: Context) -> Fairness:
    """Return the actual and the expected number of draws for each user, and the p-value of a chi-squared test.

    A user who was never a candidate is left out, unless the user is assignable now. Draws that another program inserted
    into the log count as well.
    """
    candidates = people.Candidates(context)
    draws_by_change: Counter[int] = Counter()
    assigned: Counter[str] = Counter()
    for change, assignee_id, count in _draw_counts(candidates, context):
        draws_by_change[change] += count
        assigned[assignee_id] += count
    result = chi_squared_test(
        {change: CandidatePool(candidates.as_of(change), count) for change, count in draws_by_change.items()}, assigned
    )
    all_users = {*result.expected, *people.assignable(context)}
    names = people.usernames(context, all_users)
    people_fairness = [
        PersonFairness(names[user], assigned[user], round(result.expected.get(user, 0.0), 6)) for user in all_users
    ]
    return Fairness(sorted(people_fairness, key=lambda person: person.username), result.p_value)


def _draw_counts(candidates: people.Candidates, context: Context) -> Iterator[tuple[int, str, int]]:
    """Yield (log position of the last change of candidates before the draws, assignee, number of these draws)."""
    statement = "SELECT candidates_since, assignee_id, draws_count FROM tasks_draw_counts"
    yield from context.connection.select(statement)
    inserted = (context.log.row_at(sequence) for sequence in unlinked_positions(context))
    for event in context.log.decode_known(inserted, (TaskAssigned,)):
        assigned = cast(Delivered[TaskAssigned], event).data
        yield candidates.last_change(assigned.draw.candidates_as_of), assigned.assignee_id, 1


def _shuffle_event(shuffle_id: str, result: Shuffle, context: Context) -> TasksShuffled:
    """Return the ``tasks_shuffled`` of a finished shuffle.

    Raise ``integrity`` if the event is missing, contradicts the result, or has a draw that cannot be repeated.
    """
    events = context.log.by_subject(shuffle_id, TasksShuffled)
    shuffled = cast(Delivered[TasksShuffled], events[0]).data if events else None
    if shuffled is None or (shuffled.task_count, shuffled.candidates_count) != (
        result.task_count,
        result.candidates_count,
    ):
        raise _not_verifiable(shuffle_id, "the log contradicts it")
    if shuffled.draw.algorithm != ALGORITHM or (shuffled.task_count and not shuffled.candidates_count):
        raise _not_verifiable(
            shuffle_id,
            f"a draw by {shuffled.draw.algorithm} among {counted(shuffled.candidates_count, 'candidate')}"
            " cannot be repeated",
        )
    return shuffled


def _not_verifiable(shuffle_id: str, reason: str) -> IntegrityViolation:
    return IntegrityViolation(
        "integrity",
        f"Shuffle {shuffle_id} cannot be verified: {reason}.",
        hint="Run `popug doctor`.",
        details={"shuffle_id": shuffle_id},
    )


def _wrong_draws(wrong_draws: list[tuple[str, str, str]], context: Context) -> list[WrongDraw]:
    statement = "SELECT task_id, number FROM tasks_tasks WHERE task_id IN"
    numbers: dict[str, int] = dict(context.connection.select_in(statement, [task for task, _, _ in wrong_draws]))
    names = people.usernames(context, {user for _, *users in wrong_draws for user in users})
    return [
        WrongDraw(numbers.get(task, 0), names[recorded], names[expected]) for task, recorded, expected in wrong_draws
    ]


def _shuffle(shuffle_id: str, context: Context) -> shuffles.StoredShuffle:
    row = shuffles.find(shuffle_id, context) if rules.is_storable(shuffle_id) else None
    if row is None:
        raise errors.shuffle_not_found(shuffle_id)
    return row


def _filter(message: ListTasks, context: Context) -> tuple[str, dict[str, Any]]:
    """Return the condition of a task list and its parameters.

    ``since`` and ``until`` limit the time of completion if only completed tasks are listed, else that of creation.
    """
    conditions, values = ["TRUE"], dict[str, Any]()
    if message.status is not StatusFilter.ALL:
        conditions.append(f"task.status = '{message.status}'")
    if message.assignee is not None:
        conditions.append(equal_ids("task.assignee_id", ":assignee_id"))
        values["assignee_id"] = _user_id(message.assignee, context)
    if message.creator is not None:
        conditions.append("task.creator_id = :creator_id")
        values["creator_id"] = _user_id(message.creator, context)
    if message.jira_id is not None:
        conditions.append("task.jira_id = :jira_id")
        values["jira_id"] = rules.parse_jira_id(message.jira_id)
    compared_time = "task.completed_at" if message.status is StatusFilter.COMPLETED else "task.created_at"
    for name, condition, instant in (("since", ">=", message.since), ("until", "<", message.until)):
        if instant is not None:
            conditions.append(f"{compared_time} {condition} :{name}")
            values[name] = to_rfc3339(instant)
    if message.search:
        patterns = {f"pattern_{index}": pattern for index, pattern in enumerate(rules.search_patterns(message.search))}
        alternatives = " OR ".join(f"task.search_text LIKE :{name} ESCAPE '\\'" for name in patterns)
        conditions.append(f"({alternatives})")
        values |= patterns
    return " AND ".join(conditions), values


def _order(message: ListTasks) -> str:
    """Return the sort order of a task list; tasks without a reward come last in either direction."""
    direction, opposite = ("DESC", "ASC") if message.backwards else ("ASC", "DESC")
    return {
        TaskSort.NUMBER: f"task.number {direction}",
        TaskSort.REWARD: f"task.reward_cents IS NULL, task.reward_cents {opposite}, task.number {direction}",
        TaskSort.AGE: f"task.created_at {direction}, task.number {direction}",
    }[message.sort]


def _user_id(username: str, context: Context) -> str:
    statement = "SELECT user_id FROM tasks_people WHERE username = :username"
    lowered = username.lower() if username.isascii() else username
    user_id = context.connection.scalar(statement, username=lowered) if rules.is_storable(lowered) else None
    if user_id is None:
        raise errors.user_not_found(username)
    return str(user_id)


def _tasks(condition: str, values: Mapping[str, Any], context: Context) -> list[Task]:
    """Return the tasks that match a condition, which consists of constants of this module and is not escaped."""
    rows = context.connection.records(f"{_SELECT_TASKS} WHERE {condition}", **values)
    return [msgspec.convert(row, Task, strict=False) for row in rows]

"""Creating tasks, each with its first assignee."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from popug_cli.bus.context import Context
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.messages.tasks import AssignmentReason, TaskAssigned, TaskCreated
from popug_cli.tasks import days, errors
from popug_cli.tasks.assignments import DrawWithCandidates, count_draws, new_draw
from popug_cli.tasks.rules import ParsedTitle

_INSERT_TASK = (
    "INSERT INTO tasks_tasks (number, task_id, title, jira_id, search_text, creator_id, assignee_id,"
    " created_at, status) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'open')"
)
SELECT_LAST_NUMBER_AND_ENDED = f"SELECT (SELECT max(number) FROM tasks_tasks), {days.LAST_ENDED}"


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """A new task before it is stored."""

    number: int
    task_id: str
    assignee_id: str
    parsed_title: ParsedTitle

    def row(self, creator_id: str, created_at: str) -> tuple[int | str | None, ...]:
        """Return the values of the task's row, in the order of the columns in ``_INSERT_TASK``."""
        parsed_title = self.parsed_title
        values = (parsed_title.title, parsed_title.jira_id, parsed_title.search_text)
        return (self.number, self.task_id, *values, creator_id, self.assignee_id, created_at)


class NextTask(NamedTuple):
    """The number of the next task, and the date that the events of its creation count for."""

    number: int
    business_date: date


def next_task(context: Context) -> NextTask:
    """Return the number and the business date of the next task."""
    last_number, last_ended = context.connection.select_one(SELECT_LAST_NUMBER_AND_ENDED) or (None, None)
    return NextTask((last_number or 0) + 1, days.business_date_after(last_ended, context))


def draw_for_new_tasks(first_number: int, context: Context) -> DrawWithCandidates:
    """Return a draw for new tasks, of which the first has the number. Raise ``nobody_assignable``."""
    draw = new_draw("new_tasks", str(first_number), context)
    if not draw.candidates:
        raise errors.nobody_assignable()
    return draw


def create(titles: Iterable[ParsedTitle], first: NextTask, draw: DrawWithCandidates, context: Context) -> range:
    """Create a task with a drawn assignee for each title, and return the numbers of the tasks.

    ``first`` is the result of ``next_task``.
    All of them are in memory at once, so a caller passes at most ``TASKS_AT_ONCE`` titles.
    """
    assert context.principal.user_id, "only a user creates tasks"
    planned = [
        _plan(number, parsed_title, draw, context) for number, parsed_title in enumerate(titles, start=first.number)
    ]
    _insert(planned, context)
    _publish(planned, draw, first.business_date, context)
    count_draws((task.assignee_id for task in planned), draw, context)
    return range(first.number, first.number + len(planned))


def _plan(number: int, parsed_title: ParsedTitle, draw: DrawWithCandidates, context: Context) -> PlannedTask:
    task_id = context.events.new_id()
    return PlannedTask(number, task_id, draw.assignee_of(task_id), parsed_title)


def _insert(planned: Sequence[PlannedTask], context: Context) -> None:
    creator_id, created_at = context.principal.user_id, to_rfc3339(context.now)
    context.connection.insert_many(_INSERT_TASK, [task.row(creator_id, created_at) for task in planned])


def _publish(planned: Sequence[PlannedTask], draw: DrawWithCandidates, business_date: date, context: Context) -> None:
    """Publish ``task_created`` for all tasks, then for each the ``task_assigned`` that it caused."""
    created_ids = [context.events.publish(_created(task, context), business_date=business_date) for task in planned]
    for task, created_id in zip(planned, created_ids, strict=True):
        assigned = TaskAssigned(
            task_id=task.task_id, assignee_id=task.assignee_id, reason=AssignmentReason.CREATED, draw=draw.parameters
        )
        context.events.publish(assigned, causation_id=created_id, business_date=business_date)


def _created(task: PlannedTask, context: Context) -> TaskCreated:
    return TaskCreated(
        task_id=task.task_id,
        number=task.number,
        title=task.parsed_title.title,
        jira_id=task.parsed_title.jira_id,
        creator_id=context.principal.user_id,
        assignee_id=task.assignee_id,
    )

"""Drawing the assignees of tasks, and reassigning open tasks."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from popug_cli.bus.context import Context
from popug_cli.kernel.draws import ALGORITHM
from popug_cli.kernel.randomness import DrawPurpose
from popug_cli.messages.base import Event
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.tasks import AssigneeDraw, AssignmentReason, TaskAssigned
from popug_cli.storage.id_index import equal_ids
from popug_cli.tasks import days, people
from popug_cli.tasks.rules import draw_assignee

TASKS_AT_ONCE = 10_000
_FROM_UNASSIGNABLE_OPEN_TASKS = (  # CROSS JOIN prevents SQLite from reading the open tasks of all other users
    "FROM tasks_people AS person CROSS JOIN tasks_tasks AS task"
    f" WHERE person.assignable = 0 AND {equal_ids('task.assignee_id', 'person.user_id')} AND task.status = 'open'"
)
UPDATE_ASSIGNEE = (
    "UPDATE tasks_tasks SET assignee_id = drawn.column1 FROM (VALUES (?, ?)) AS drawn WHERE number = drawn.column2"
)


class OpenTask(NamedTuple):
    """An open task and its assignee."""

    number: int
    task_id: str
    assignee_id: str


@dataclass(frozen=True, slots=True)
class DrawWithCandidates:
    """A fresh draw and its candidates: user ids in ascending order, unchanged since the position `candidates_since`."""

    parameters: AssigneeDraw
    candidates: Sequence[str]
    candidates_since: int

    def assignee_of(self, task_id: str) -> str:
        """Return the assignee that the draw gives a task; ``candidates`` must not be empty."""
        return draw_assignee(self.parameters.seed, task_id, self.candidates)


@dataclass(frozen=True, slots=True)
class Reassignment:
    """Why tasks are reassigned, and the date that it counts for; ``shuffle_id`` is None unless a shuffle does it."""

    progress_label: str
    reason: AssignmentReason
    cause: Delivered[Event]
    business_date: date
    shuffle_id: str | None = None


def new_draw(purpose: DrawPurpose, subject: str, context: Context) -> DrawWithCandidates:
    """Return a draw among all users who are assignable now, with a new seed.

    ``purpose`` and ``subject`` name the draw for the source of seeds: see ``kernel.randomness.Draws``. The draw records
    the context's position for its candidates, or that of the last change if it is later: see ``record_assignability``.
    """
    last_change = people.last_change(context)
    parameters = AssigneeDraw(
        seed=context.draws.new_seed(purpose, subject),
        algorithm=ALGORITHM,
        candidates_as_of=max(context.position, last_change),
    )
    return DrawWithCandidates(parameters, people.assignable(context), last_change)


def count_draws(assignee_ids: Iterable[str], draw: DrawWithCandidates, context: Context) -> None:
    """Count the assignees that a draw gave to tasks in the stored counts of draws."""
    context.connection.insert_many(
        "INSERT INTO tasks_draw_counts (candidates_since, assignee_id, draws_count) VALUES (?, ?, ?)"
        " ON CONFLICT (candidates_since, assignee_id)"
        " DO UPDATE SET draws_count = tasks_draw_counts.draws_count + excluded.draws_count",
        [(draw.candidates_since, assignee_id, count) for assignee_id, count in Counter(assignee_ids).items()],
    )


def count_open_tasks(context: Context) -> int:
    """Return the number of open tasks."""
    return int(context.connection.scalar("SELECT count(*) FROM tasks_tasks WHERE status = 'open'"))


def open_tasks(context: Context) -> Iterator[list[OpenTask]]:
    """Yield every open task by number, in chunks of ``TASKS_AT_ONCE``."""
    statement = (
        "SELECT number, task_id, assignee_id FROM tasks_tasks WHERE status = 'open' AND number > :last_number"
        " ORDER BY number LIMIT :limit"
    )
    last_number = 0
    while rows := context.connection.select(statement, last_number=last_number, limit=TASKS_AT_ONCE):
        yield list(map(OpenTask._make, rows))
        last_number = rows[-1][0]


def has_open_tasks(context: Context) -> bool:
    """Return whether any task is open."""
    return bool(context.connection.scalar("SELECT EXISTS (SELECT 1 FROM tasks_tasks WHERE status = 'open')"))


def reassign(
    chunks: Iterable[Sequence[OpenTask]],
    task_count: int,
    draw: DrawWithCandidates,
    reassignment: Reassignment,
    context: Context,
) -> None:
    """Draw a new assignee for each open task, store it, and publish a ``task_assigned`` for each.

    ``task_count`` is the number of tasks in all chunks, for the progress report.
    """
    reassigned_count = 0
    for tasks in chunks:
        assignees = []
        for task in tasks:
            assignee_id = draw.assignee_of(task.task_id)
            assignees.append((assignee_id, task.number))
            context.events.publish(
                TaskAssigned(
                    task_id=task.task_id,
                    assignee_id=assignee_id,
                    previous_assignee_id=task.assignee_id,
                    reason=reassignment.reason,
                    shuffle_id=reassignment.shuffle_id,
                    draw=draw.parameters,
                ),
                cause=reassignment.cause,
                business_date=reassignment.business_date,
            )
        context.connection.insert_many(UPDATE_ASSIGNEE, assignees)
        count_draws((assignee_id for assignee_id, _ in assignees), draw, context)
        reassigned_count += len(tasks)
        context.progress(reassignment.progress_label, reassigned_count, task_count)


def reassign_unassignable(cause: Delivered[Event], context: Context) -> None:
    """Reassign the open tasks of users who are not assignable; without candidates they keep their tasks."""
    task_count = int(context.connection.scalar(f"SELECT count(*) {_FROM_UNASSIGNABLE_OPEN_TASKS}"))
    draw = new_draw("reassignment", cause.id, context)
    if task_count and draw.candidates:
        business_date = days.business_date(context)
        reassignment = Reassignment("Reassigning", AssignmentReason.ASSIGNEE_LEFT, cause, business_date)
        reassign(_unassignable_open_tasks(context), task_count, draw, reassignment, context)


def _unassignable_open_tasks(context: Context) -> Iterator[list[OpenTask]]:
    """Yield chunks of open tasks of users who are not assignable, until the caller has reassigned all of them."""
    statement = f"SELECT task.number, task.task_id, task.assignee_id {_FROM_UNASSIGNABLE_OPEN_TASKS} LIMIT :limit"
    while rows := context.connection.select(statement, limit=TASKS_AT_ONCE):
        yield sorted(map(OpenTask._make, rows))

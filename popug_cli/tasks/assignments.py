"""Drawing who gets a task, and handing open tasks over."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import text

from popug_cli.bus.runtime import Context
from popug_cli.kernel.chance import new_seed
from popug_cli.kernel.draws import ALGORITHM, draw_assignee
from popug_cli.messages.base import Event
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.tasks import AssigneeDraw, AssignmentReason, TaskAssigned
from popug_cli.storage.engine import driver_of, insert_many
from popug_cli.tasks import people

PROGRESS_TASKS = 5_000
ASSIGN = "UPDATE tasks_tasks SET assignee_id = lot.column1 FROM (VALUES (?, ?)) AS lot WHERE number = lot.column2"


class OpenTask(NamedTuple):
    """An open task and who holds it."""

    number: int
    task_id: str
    assignee_id: str


@dataclass(frozen=True, slots=True)
class Lot:
    """A fresh draw and those among whom it is drawn, by user id."""

    draw: AssigneeDraw
    candidates: Sequence[str]

    def assignee_of(self, task_id: str) -> str:
        """Who gets a task; there must be candidates."""
        return draw_assignee(self.draw.seed, task_id, self.candidates)


@dataclass(frozen=True, slots=True)
class HandOver:
    """Why tasks change hands: an event, and the shuffle if it is one."""

    label: str
    reason: AssignmentReason
    cause: Delivered[Event]
    shuffle_id: str | None = None


def new_lot(context: Context) -> Lot:
    """A draw with a fresh seed among all who are assignable now."""
    draw = AssigneeDraw(
        seed=new_seed(context.chance), algorithm=ALGORITHM, candidates_as_of=people.known_as_of(context)
    )
    return Lot(draw, people.assignable(context))


def open_tasks(context: Context) -> list[OpenTask]:
    """Every open task, by number."""
    statement = "SELECT number, task_id, assignee_id FROM tasks_tasks WHERE status = 'open' ORDER BY number"
    return list(map(OpenTask._make, driver_of(context.connection).execute(statement)))


def has_open_tasks(context: Context) -> bool:
    """Whether there is any open task."""
    statement = text("SELECT 1 FROM tasks_tasks WHERE status = 'open' LIMIT 1")
    return context.connection.execute(statement).first() is not None


def orphaned_tasks(context: Context) -> list[OpenTask]:
    """The open tasks of those who may not hold any, by number."""
    statement = text(
        "SELECT t.number, t.task_id, t.assignee_id FROM tasks_people AS p"
        " JOIN tasks_tasks AS t ON t.assignee_id = p.user_id AND t.status = 'open' WHERE p.assignable = 0"
    )
    return sorted(OpenTask(*row) for row in context.connection.execute(statement))


def hand_over(tasks: Sequence[OpenTask], lot: Lot, why: HandOver, context: Context) -> None:
    """Draw a new assignee for each of the open tasks and say so in an event each."""
    drawn = []
    for done, task in enumerate(tasks, start=1):
        assignee_id = lot.assignee_of(task.task_id)
        drawn.append((assignee_id, task.number))
        context.events.publish(
            TaskAssigned(
                task_id=task.task_id,
                assignee_id=assignee_id,
                previous_assignee_id=task.assignee_id,
                reason=why.reason,
                shuffle_id=why.shuffle_id,
                draw=lot.draw,
            ),
            cause=why.cause,
        )
        if done % PROGRESS_TASKS == 0 or done == len(tasks):
            context.progress(why.label, done, len(tasks))
    insert_many(context.connection, ASSIGN, drawn)


def hand_on_orphans(cause: Delivered[Event], context: Context) -> None:
    """Give the open tasks of those who may not hold any to somebody who may; they stay while there is nobody."""
    orphans = orphaned_tasks(context)
    lot = new_lot(context)
    if orphans and lot.candidates:
        hand_over(orphans, lot, HandOver("Handing on", AssignmentReason.ASSIGNEE_LEFT, cause), context)

"""The effect of each kind of operation on a world; the numbers of the operation choose their objects."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from popug_cli.kernel.errors import PopugError
from popug_cli.messages.base import Role
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.bus import DropDeadLetter, RetryDeadLetters
from popug_cli.messages.identity import (
    ActivateUser,
    AddUser,
    DeactivateUser,
    ImportUsers,
    NewPerson,
    SetEmail,
    SetRole,
)
from popug_cli.messages.tasks import AddTask, CompleteTask, ImportTasks, NewTask, ShuffleTasks
from tests.simulation.injected_faults import ALL_AT_ONCE
from tests.simulation.plan import Operation
from tests.simulation.violation import require

if TYPE_CHECKING:
    from tests.simulation.world import World

CONSUMERS = ("billing", "tasks", "analytics", "mail")
MOST_PEOPLE = 20


def add(world: "World", operation: Operation) -> None:
    """A user adds a task."""
    jira = f"POPUG-{operation.b}" if operation.b % 3 == 0 else None
    world.command(operation, world.any_user(operation.a), AddTask(title=f"Task {operation.b}", jira_id=jira))


def complete_own(world: "World", operation: Operation) -> None:
    """A user completes one of their own tasks."""
    open_tasks = [task for task in world.model.numbers if not task.completed]
    if open_tasks:
        task = open_tasks[operation.b % len(open_tasks)]
        world.command(operation, world.person(task.assignee_id), CompleteTask(number=task.number))


def complete_any(world: "World", operation: Operation) -> None:
    """A user tries to complete any task, their own or not, existing or not."""
    number = 1 + operation.b % (len(world.model.numbers) + 1)
    world.command(operation, world.any_user(operation.a), CompleteTask(number=number))


def shuffle(world: "World", operation: Operation) -> None:
    """A user shuffles; mostly one with permission."""
    actor = world.boss() if operation.a % 4 else world.any_user(operation.b)
    world.command(operation, actor, ShuffleTasks())


def hire(world: "World", operation: Operation) -> None:
    """An admin registers a user."""
    if len(world.model.people) < MOST_PEOPLE:
        role = ("worker", "worker", "accountant", "manager")[operation.a % 4]
        name = f"p{operation.place}"
        world.command(operation, world.boss(), AddUser(username=name, email=f"{name}@example.com", role=Role(role)))


def import_tasks(world: "World", operation: Operation) -> None:
    """A user imports tasks, some of them again."""
    lines = [NewTask(title=f"Line {(operation.b + n) % 40}") for n in range(1 + operation.a % 8)]
    world.command(operation, world.any_user(operation.b), ImportTasks(lines=[*lines]))


def import_people(world: "World", operation: Operation) -> None:
    """An admin adds several users at once."""
    if len(world.model.people) < MOST_PEOPLE:
        names = [f"i{operation.place}-{n}" for n in range(1 + operation.a % 3)]
        people = [NewPerson(username=n, email=f"{n}@example.com", role=Role.WORKER) for n in names]
        world.command(operation, world.boss(), ImportUsers(people=[*people]))


def set_role(world: "World", operation: Operation) -> None:
    """A user gets another role."""
    if person := world.changeable(operation.a):
        role = list(Role)[operation.b % 4]
        world.command(operation, world.boss(), SetRole(username=person.username, role=role))


def flip_active(world: "World", operation: Operation) -> None:
    """A user is deactivated or reactivated."""
    if person := world.changeable(operation.a):
        message = DeactivateUser if person.active else ActivateUser
        world.command(operation, world.boss(), message(username=person.username))


def set_email(world: "World", operation: Operation) -> None:
    """A user gets another address."""
    if person := world.changeable(operation.a):
        email = f"{person.username}.{operation.b % 5}@example.com"
        world.command(operation, world.boss(), SetEmail(username=person.username, email=email))


def close_day(world: "World", operation: Operation) -> None:
    """Today or yesterday is closed; during a fault in a wild world only, since late events count later."""
    if not world.plan.wild:
        world.heal_everything()
    yesterday = operation.a % 3 > 0
    world.command(operation, world.boss(), CloseDay(yesterday=yesterday, send_mail=False, confirmed=True))


def clock_forward(world: "World", operation: Operation) -> None:
    """Time passes."""
    world.decide()
    seconds = (7, 60, 600, 3600, 3600 * 5)[operation.a % 5] if operation.b % 40 else 86400 * (1 + operation.c % 3)
    world.clock.advance(seconds=seconds)


def clock_back(world: "World", operation: Operation) -> None:
    """The clock is set back."""
    world.decide()
    world.clock.advance(seconds=-(1, 60, 3600, 86400)[operation.a % 4])


def redeliver(world: "World", operation: Operation) -> None:
    """The cursor moves back: done events are delivered again."""
    consumer = CONSUMERS[operation.a % len(CONSUMERS)]
    back = operation.b % (30 if operation.c % 10 else 500)
    with world.begun() as (connection, _):
        position = connection.scalar("SELECT position FROM bus_cursors WHERE consumer = ?", consumer)
        moved = max(0, (position or 0) - back)
        connection.execute("UPDATE bus_cursors SET position = ? WHERE consumer = ?", moved, consumer)


def crash_soon(world: "World", operation: Operation) -> None:
    """One of the next transactions crashes."""
    world.wrong.crash_in = 1 + operation.a % 6
    world.wrong.crash_where = ("before the cursor", "before the commit", "after the commit")[operation.b % 3]


def outage(world: "World", operation: Operation) -> None:
    """A consumer fails on every event."""
    world.wrong.down.add(CONSUMERS[operation.a % len(CONSUMERS)])


def poison(world: "World", operation: Operation) -> None:
    """One consumer fails on one subject, mostly a new one."""
    subjects = [*world.model.people, *world.model.tasks]
    recent = subjects[-3:] if operation.b % 2 else subjects
    world.wrong.poisoned.add((CONSUMERS[operation.a % len(CONSUMERS)], recent[operation.c % len(recent)]))


def heal(world: "World", operation: Operation) -> None:
    """Consumers recover."""
    world.wrong.down.clear()
    if operation.a % 2:
        world.wrong.poisoned.clear()


def restart(world: "World", operation: Operation) -> None:
    """The process ends and another one starts."""
    world.shut()
    world.open()


def batch_size(world: "World", operation: Operation) -> None:
    """Consumers process batches of that size."""
    world.wrong.batch_size = (1, 3, 7, 20, 100, ALL_AT_ONCE)[operation.a % 6]


def mix(world: "World", operation: Operation) -> None:
    """Deliveries are mixed between keys, or not any more."""
    world.wrong.mixing = random.Random(operation.b) if operation.a % 4 else None


def catch_up(world: "World", operation: Operation) -> None:
    """Consumers catch up."""
    world.until_done(lambda: world.backend.catch_up(include_not_due=operation.a % 2 == 0))


def retry(world: "World", operation: Operation) -> None:
    """A user retries all dead letters."""
    world.until_done(lambda: world.backend.perform_as(world.boss(), RetryDeadLetters()))


def drop(world: "World", operation: Operation) -> None:
    """A user drops a dead letter; not one about users in tasks, or all their later events would fail."""
    rows = world.rows(
        "SELECT id, consumer, sequence FROM bus_set_aside WHERE state IN ('dead', 'retrying') AND"
        " (consumer <> 'tasks' OR subject NOT IN (SELECT user_id FROM identity_users)) ORDER BY id"
    )
    if rows:
        dead_id, consumer, sequence = rows[operation.a % len(rows)]
        message = DropDeadLetter(dead_id=dead_id, reason="the simulation says so")
        try:
            world.until_done(lambda: world.backend.perform_as(world.boss(), message))
        except PopugError as refusal:
            require(refusal.code == "dead_letter_not_found", "a_head_can_be_dropped", refusal)
        if world.rows("SELECT 1 FROM bus_set_aside WHERE id = ? AND state = 'dropped'", (dead_id,)):
            world.given_up.add((consumer, sequence))


STEPS: dict[str, Callable[["World", Operation], None]] = {
    "add": add,
    "complete_own": complete_own,
    "complete_any": complete_any,
    "shuffle": shuffle,
    "hire": hire,
    "import_tasks": import_tasks,
    "import_people": import_people,
    "set_role": set_role,
    "flip_active": flip_active,
    "set_email": set_email,
    "close_day": close_day,
    "clock_forward": clock_forward,
    "clock_back": clock_back,
    "redeliver": redeliver,
    "crash_soon": crash_soon,
    "outage": outage,
    "poison": poison,
    "heal": heal,
    "restart": restart,
    "batch_size": batch_size,
    "mix": mix,
    "catch_up": catch_up,
    "retry": retry,
    "drop": drop,
}

"""The effect of each kind of operation on a linked world; its numbers choose the objects."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from popug_cli.bus import relay as relays
from popug_cli.messages.base import ACCOUNTING, Role
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.identity import ActivateUser, AddUser, DeactivateUser, SetEmail, SetRole
from popug_cli.messages.mail import SendMail
from popug_cli.messages.services import SERVICES
from popug_cli.messages.tasks import AddTask, CompleteTask, ImportTasks, NewTask, ShuffleTasks
from tests.simulation.linked import chaos, disasters
from tests.simulation.linked.chaos import LIMITS, ORIGINS, STREAMS
from tests.simulation.plan import Operation

if TYPE_CHECKING:
    from tests.simulation.linked.world import LinkedWorld

MAX_PEOPLE = 16
INTERLUDES = 10**7


# Commands.


def add(world: "LinkedWorld", operation: Operation) -> None:
    """A user adds a task."""
    people = world.people()
    jira_id = f"POPUG-{operation.b}" if operation.b % 3 == 0 else None
    message = AddTask(title=f"Task {operation.b}", jira_id=jira_id)
    world.perform("tasks", operation, people[operation.a % len(people)], message)


def complete_own(world: "LinkedWorld", operation: Operation) -> None:
    """A user completes one of their own tasks."""
    own = world.rows("tasks", "SELECT number, assignee_id FROM tasks_tasks WHERE status = 'open' ORDER BY number")
    if own:
        number, assignee_id = own[operation.b % len(own)]
        holder = next(person for person in world.people(active=False) if person.user_id == assignee_id)
        world.perform("tasks", operation, holder, CompleteTask(number=number))


def complete_any(world: "LinkedWorld", operation: Operation) -> None:
    """A user tries to complete any task, their own or not, existing or not."""
    ((count,),) = world.rows("tasks", "SELECT count(*) FROM tasks_tasks")
    people = world.people()
    message = CompleteTask(number=1 + operation.b % (count + 1))
    world.perform("tasks", operation, people[operation.a % len(people)], message)


def shuffle(world: "LinkedWorld", operation: Operation) -> None:
    """A user shuffles; mostly one with permission."""
    people = world.people() if operation.a % 4 == 0 else world.with_role(Role.MANAGER, Role.ADMIN)
    world.perform("tasks", operation, people[operation.b % len(people)], ShuffleTasks())


def import_tasks(world: "LinkedWorld", operation: Operation) -> None:
    """A user imports tasks, some of them again."""
    people = world.people()
    lines = [NewTask(title=f"Line {(operation.b + n) % 40}") for n in range(1 + operation.a % 8)]
    world.perform("tasks", operation, people[operation.b % len(people)], ImportTasks(lines=lines))


def hire(world: "LinkedWorld", operation: Operation) -> None:
    """An admin registers a user of any role."""
    if len(world.people(active=False)) < MAX_PEOPLE:
        role = (Role.WORKER, Role.WORKER, Role.ACCOUNTANT, Role.MANAGER, Role.ADMIN)[operation.a % 5]
        name = f"p{operation.place}x{world.lives}"
        message = AddUser(username=name, email=f"{name}@example.com", role=role)
        world.perform("identity", operation, world.admin(), message)


def set_role(world: "LinkedWorld", operation: Operation) -> None:
    """A user gets another role."""
    others = world.changeable()
    if others:
        person = others[operation.a % len(others)]
        message = SetRole(username=person.username, role=list(Role)[operation.b % 4])
        world.perform("identity", operation, world.admin(), message)


def flip_active(world: "LinkedWorld", operation: Operation) -> None:
    """A user is deactivated or reactivated."""
    others = world.changeable()
    if others:
        person = others[operation.a % len(others)]
        message = DeactivateUser if person in world.people() else ActivateUser
        world.perform("identity", operation, world.admin(), message(username=person.username))


def set_email(world: "LinkedWorld", operation: Operation) -> None:
    """A user gets another address."""
    everyone = world.people(active=False)
    person = everyone[operation.a % len(everyone)]
    message = SetEmail(username=person.username, email=f"{person.username}.{operation.b % 5}@example.com")
    world.perform("identity", operation, world.admin(), message)


def correct(world: "LinkedWorld", operation: Operation) -> None:
    """An accountant corrects an entry, perhaps one that is corrected already."""
    accountants = world.with_role(*ACCOUNTING)
    if found := world.correction(operation.b):
        entry, message = found
        world.perform("billing", operation, accountants[operation.a % len(accountants)], message, entry)


def close(world: "LinkedWorld", operation: Operation) -> None:
    """An accountant closes today or yesterday; while billing waits for the end of the day, others go on working."""
    accountants = world.with_role(*ACCOUNTING)
    message = CloseDay(yesterday=operation.b % 3 > 0, send_mail=operation.c % 4 == 0, confirmed=True)
    world.interludes = [_interlude(world, operation, number) for number in range(operation.c % 5)]
    world.perform("billing", operation, accountants[operation.a % len(accountants)], message)


def _interlude(world: "LinkedWorld", operation: Operation, number: int) -> Callable[[], None]:
    step = (add, complete_own, shuffle, correct, add)[(operation.a >> number) % 5]
    place = INTERLUDES + operation.place * 10 + number
    return lambda: step(world, Operation(place, "", operation.b + number, operation.c + number, operation.a))


def send_mail(world: "LinkedWorld", operation: Operation) -> None:
    """An accountant sends the mail that is due."""
    world.settle("mail")
    accountants = world.with_role(*ACCOUNTING)
    world.perform("mail", operation, accountants[operation.a % len(accountants)], SendMail())


def clock_forward(world: "LinkedWorld", operation: Operation) -> None:
    """Time passes."""
    seconds = (7, 60, 600, 3600, 3600 * 5)[operation.a % 5] if operation.b % 6 else 86400 * (1 + operation.c % 2)
    world.clock.advance(seconds=seconds)


# Records on their way.


def relay(world: "LinkedWorld", operation: Operation) -> None:
    """A relay sends what its topic lacks."""
    chaos.relay(world, ORIGINS[operation.a % len(ORIGINS)], LIMITS[operation.b % len(LIMITS)])


def two_relays(world: "LinkedWorld", operation: Operation) -> None:
    """Two relays of a service claim, send and store in any order."""
    origin = ORIGINS[operation.a % len(ORIGINS)]
    claims = [chaos.claim(world, origin, LIMITS[number % len(LIMITS)]) for number in (operation.b, operation.c)]
    for claimed in claims if operation.a % 2 else reversed(claims):
        world.topics[origin].produce(relays.records_of(claimed))
    for claimed in claims if operation.b % 2 else reversed(claims):
        chaos.advance(world, origin, claimed)


def relay_dies(world: "LinkedWorld", operation: Operation) -> None:
    """A relay is killed after some of its records, or before it stores that it has sent them all."""
    origin = ORIGINS[operation.a % len(ORIGINS)]
    records = relays.records_of(chaos.claim(world, origin, LIMITS[operation.b % len(LIMITS)]))
    world.topics[origin].produce(records[: operation.c % (len(records) + 1)])


def relay_sleeps(world: "LinkedWorld", operation: Operation) -> None:
    """A relay is stopped between its claim and its first record."""
    origin = ORIGINS[operation.a % len(ORIGINS)]
    claimed = chaos.claim(world, origin, LIMITS[operation.b % len(LIMITS)])
    world.sleeping.append((origin, relays.records_of(claimed)))


def wake(world: "LinkedWorld", operation: Operation) -> None:
    """A relay that was thought dead sends its records, without some of the last."""
    if world.sleeping:
        origin, records = world.sleeping.pop(operation.a % len(world.sleeping))
        world.topics[origin].produce(records[: len(records) - operation.b % 3])


def repeat(world: "LinkedWorld", operation: Operation) -> None:
    """Some records are in the topic again, perhaps in reverse order."""
    topic = world.topics[ORIGINS[operation.a % len(ORIGINS)]]
    start = operation.b % (len(topic.records) + 1)
    records = [record for record in topic.records[start : start + 1 + operation.c % 9] if record is not None]
    topic.produce(records if operation.c % 2 else records[::-1])


def lose(world: "LinkedWorld", operation: Operation) -> None:
    """The topic loses one of its last records."""
    origin = ORIGINS[operation.a % len(ORIGINS)]
    topic = world.topics[origin]
    if topic.records:
        world.lossy.add(origin)
        topic.lose(max(0, len(topic.records) - 1 - operation.b % 8))


def mangle(world: "LinkedWorld", operation: Operation) -> None:
    """A record without its headers, or of another company, is in the topic."""
    topic = world.topics[ORIGINS[operation.a % len(ORIGINS)]]
    known = [record for record in topic.records if record is not None]
    if known:
        record = known[operation.b % len(known)]
        other = [
            (name, b"0" * 8 + value[8:] if name == "popug_log" else value) for name, value in record.headers if value
        ]
        topic.produce([record._replace(headers=other if operation.c % 2 else record.headers[: operation.c % 9])])


def republish(world: "LinkedWorld", operation: Operation) -> None:
    """An operator sends a part of a log again."""
    origin = ORIGINS[operation.a % len(ORIGINS)]
    chaos.republish(world, origin, world.head(origin) * (operation.b % 10) // 10)


def replicate(world: "LinkedWorld", operation: Operation) -> None:
    """A service takes records, and mostly lets its consumers run."""
    service, origin = STREAMS[operation.a % len(STREAMS)]
    chaos.replicate(world, service, origin, LIMITS[operation.b % len(LIMITS)])
    if operation.c % 5:
        world.until_done(world.services[service].catch_up)


def two_replicators(world: "LinkedWorld", operation: Operation) -> None:
    """Two replicators have read the same records, and take them one after the other."""
    service, origin = STREAMS[operation.a % len(STREAMS)]
    start = operation.b % (world.next_offset(service, origin) + 1)
    records = world.topics[origin].read(start, 1 + operation.c % 30)
    chaos.replicate(world, service, origin, LIMITS[operation.b % len(LIMITS)])
    if records:
        chaos.take(world, service, origin, records)


# Processes.


def kill_soon(world: "LinkedWorld", operation: Operation) -> None:
    """One of the next transactions ends in a kill, before or after its commit."""
    world.kill.transactions = 1 + operation.a % 6
    world.kill.where = ("before the commit", "after the commit")[operation.b % 2]


def restart(world: "LinkedWorld", operation: Operation) -> None:
    """A service ends, and another process of it starts."""
    name = tuple(SERVICES)[operation.a % len(SERVICES)]
    world.services[name].close()
    world.services[name] = world.open(name, world.root / name)


def catch_up(world: "LinkedWorld", operation: Operation) -> None:
    """The consumers of a service catch up."""
    name = tuple(SERVICES)[operation.a % len(SERVICES)]
    world.until_done(lambda: world.services[name].catch_up(include_not_due=operation.b % 2 == 0))


def poison(world: "LinkedWorld", operation: Operation) -> None:
    """Analytics fails on the events of a user."""
    people = world.people(active=False)
    world.poisoned.add(people[operation.a % len(people)].user_id)


def heal(world: "LinkedWorld", operation: Operation) -> None:
    """Analytics succeeds again, and an admin lets it retry what it has set aside."""
    world.heal()


def upgrade_publisher(world: "LinkedWorld", operation: Operation) -> None:
    """Identity runs a newer program, which publishes a newer version of an event."""
    world.publishes_newer = True


def upgrade_receivers(world: "LinkedWorld", operation: Operation) -> None:
    """The other services run the newer program as well."""
    world.upgrade_receivers()


STEPS: dict[str, Callable[["LinkedWorld", Operation], None]] = {
    step.__name__: step
    for step in (
        add, complete_own, complete_any, shuffle, import_tasks, hire, set_role, flip_active, set_email, correct,
        close, send_mail, clock_forward, relay, two_relays, relay_dies, relay_sleeps, wake, repeat,
        lose, mangle, republish, replicate, two_replicators, kill_soon, restart, catch_up,
        poison, heal, upgrade_publisher, upgrade_receivers,
        disasters.back_up, disasters.restore, disasters.fail_over, disasters.second_database,
    )
}  # fmt: skip

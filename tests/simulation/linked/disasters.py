"""Backups, and what makes a restore necessary: lost commits, and a second database that publishes as one service."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from popug_cli.bus.records import EventRecord, parse_record
from popug_cli.bus.replicator import name_of
from popug_cli.bus.service.restore import Received, begin_new_life
from popug_cli.kernel.randomness import uuid7
from popug_cli.messages.base import Event
from popug_cli.messages.billing import DayClosed
from popug_cli.messages.bus import ReadModelsRebuilt
from popug_cli.messages.identity import UserDeactivated
from popug_cli.messages.principal import ANONYMOUS
from popug_cli.messages.services import SERVICES, receivers_of
from popug_cli.messages.tasks import TaskCompleted
from tests.simulation.linked import chaos
from tests.simulation.linked.topic import MemoryTopic
from tests.simulation.linked.trace import Step
from tests.simulation.plan import Operation
from tests.simulation.violation import require

if TYPE_CHECKING:
    from tests.simulation.linked.world import LinkedWorld

OWN = "SELECT sequence, id FROM bus_log WHERE sequence NOT IN (SELECT sequence FROM bus_received) ORDER BY sequence"
RECEIVED = (
    "SELECT origin_position, id FROM bus_received JOIN bus_log USING (sequence) WHERE origin = ?"
    " ORDER BY origin_position"
)

History = dict[int, str]


class Backup(NamedTuple):
    """Copies of all databases at one instant, and what was done until then."""

    directory: Path
    trace: tuple[Step, ...]


def copy_databases(world: "LinkedWorld", target: Path) -> None:
    """Copy the database files of all services; no transaction is open."""
    shutil.rmtree(target, ignore_errors=True)
    for name in SERVICES:
        (target / name).mkdir(parents=True)
        for file in (world.root / name).glob("popug.db*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, target / name / file.name)


def put_back(world: "LinkedWorld", source: Path, *names: str) -> None:
    """Replace the databases of some services by copies."""
    for name in names:
        world.services[name].close()
        for file in (world.root / name).glob("popug.db*"):
            file.unlink()
        for file in (source / name).iterdir():
            shutil.copy(file, world.root / name / file.name)
        world.services[name] = world.open(name, world.root / name)


def back_up(world: "LinkedWorld", operation: Operation) -> None:
    """An operator backs up all services while nothing is replicated."""
    copy_databases(world, world.root / "backup")
    world.backup = Backup(world.root / "backup", tuple(world.trace))


def restore(world: "LinkedWorld", operation: Operation) -> None:
    """An operator restores all services from the last backup; relays of the old life may still be awake."""
    if world.backup is None:
        back_up(world, operation)
    world.kill.where = ""
    world.lossy.clear()
    put_back(world, world.backup.directory, *SERVICES)
    world.trace = [*world.backup.trace]
    world.lives += 1
    world.is_disaster = False
    log_ids = {name: uuid7(world.clock.instant, world.chance) for name in SERVICES}
    received = {
        name: {receiver: _received(world, receiver, name) for receiver in receivers_of(name)} for name in SERVICES
    }
    for name in SERVICES:
        with world.services[name].runtime.writing(ANONYMOUS) as context:
            begin_new_life(context, log_ids, received[name])
        if operation.a % 2:
            world.topics[name] = MemoryTopic(world.clock)
    back_up(world, operation)


def _received(world: "LinkedWorld", receiver: str, name: str) -> Received:
    state = world.stream(receiver, name)
    return Received(state.last, state.last_id)


def fail_over(world: "LinkedWorld", operation: Operation) -> None:
    """A service loses its last commits and goes on; what follows is noticed, then all are restored.

    Most of the time it then publishes as many events as it has lost, and the topic loses those records. Or events of
    other services take the place of the lost ones.
    """
    name = _victim(world, operation)
    copy_databases(world, world.root / "standby")
    before = world.head(name)
    for turn in range(1 + operation.b % 2):
        _go_on(world, name, operation, turn, loses=operation.a % 5 == 0)
        _flow(world, name, operation, turn, [])
    histories, lost_count = [own_events(world, name)], world.head(name) - before
    put_back(world, world.root / "standby", name)
    if operation.b % 5 == 0:
        _receive(world, name, lost_count)
    elif operation.a % 4:
        for _ in range(lost_count):
            _publish(world, name)
        start = len(world.topics[name].records)
        chaos.relay(world, name, reads_back=_reads_back(operation))
        for offset in range(start, len(world.topics[name].records) - operation.a // 4 % 2):
            world.topics[name].lose(offset)
    for turn in range(1 + operation.c % 4):
        _go_on(world, name, operation, turn + 3)
        _flow(world, name, operation, turn, histories)
    _require_noticed(world, name, reads_back=_reads_back(operation))
    restore(world, operation)


def second_database(world: "LinkedWorld", operation: Operation) -> None:
    """A copy of a service publishes as that service; what follows is noticed, then all are restored."""
    name = _victim(world, operation)
    copy_databases(world, world.root / "twin")
    real, copy = world.services[name], world.open(name, world.root / "twin" / name)
    for turn in range(2 + operation.b % 4):
        histories = []
        for database in (real, copy) if (operation.c >> turn) % 2 else (copy, real):
            world.services[name] = database
            if (operation.a >> turn) % 3:
                _go_on(world, name, operation, turn)
            histories.append(own_events(world, name))
        _flow(world, name, operation, turn, histories)
    world.services[name] = real
    copy.close()
    _require_noticed(world, name, reads_back=_reads_back(operation))
    restore(world, operation)


def _victim(world: "LinkedWorld", operation: Operation) -> str:
    """Return the service that the disaster befalls; no process is killed during it."""
    world.kill.where = ""
    world.is_disaster = True
    if world.backup is None:
        back_up(world, operation)
    return ("identity", "tasks", "billing")[operation.a % 3]


def _go_on(world: "LinkedWorld", name: str, operation: Operation, turn: int, *, loses: bool = True) -> None:
    """Publish some events of a service and send them; the topic loses some."""
    for number in range(1 + (operation.b >> turn) % 3):
        _publish(world, name, is_subscribed=bool((operation.c >> number) % 2))
    before = len(world.topics[name].records)
    chaos.relay(world, name, reads_back=_reads_back(operation))
    for offset in range(before, len(world.topics[name].records) - 1):
        if loses and (operation.a >> (offset + turn) % 20) % 4 == 0:
            world.topics[name].lose(offset)


def _flow(world: "LinkedWorld", name: str, operation: Operation, turn: int, histories: list[History]) -> None:
    """Let some services take some records; then each holds a part of one history."""
    for number, receiver in enumerate(receivers_of(name)):
        if (operation.c >> (turn + number)) % 4:
            chaos.replicate(world, receiver, name, (1_000, 2, 1_000, 5)[(operation.b >> number) % 4])
        _require_one_history(world, receiver, name, [*histories, own_events(world, name)])


def own_events(world: "LinkedWorld", name: str) -> History:
    """Return the ids of the service's own events by position."""
    return dict(world.rows(name, OWN))


def _publish(world: "LinkedWorld", name: str, *, is_subscribed: bool = False) -> None:
    """Publish an event of a service; no consumer runs before all databases are restored."""
    event: Event = ReadModelsRebuilt(consumer=name, events=0)
    if is_subscribed:
        event = {
            "identity": UserDeactivated(user_id="nobody"),
            "tasks": TaskCompleted(task_id="none", assignee_id="nobody", completed_at=world.clock.instant),
            "billing": DayClosed(
                business_date=world.clock.instant.date(), fees_cents=0, rewards_cents=0, income_cents=0,
                payouts_cents=0, paid_count=0, in_red_count=0,
            ),
        }[name]  # fmt: skip
    with world.services[name].runtime.writing(ANONYMOUS) as context:
        context.events.publish(event)


def _receive(world: "LinkedWorld", name: str, count: int) -> None:
    """Let a service receive some events of another one, if it receives any."""
    for origin in list(SERVICES[name].subscriptions)[:1]:
        for _ in range(count):
            _publish(world, origin, is_subscribed=True)
        chaos.relay(world, origin)
        chaos.replicate(world, name, origin)


def _require_one_history(world: "LinkedWorld", receiver: str, name: str, histories: list[History]) -> None:
    state = world.stream(receiver, name)
    held = [each for each in world.rows(receiver, RECEIVED, name) if each[0] > world.begun_with]
    fits = [
        history
        for history in histories
        if all(history.get(position) == event_id for position, event_id in held)
        and (state.last <= world.begun_with or history.get(state.last) == state.last_id)
    ]
    require(bool(fits), "histories_are_not_mixed", f"{receiver} of {name}: {state}")


def _reads_back(operation: Operation) -> bool:
    """Return whether the relays of a disaster read their topic back; without that, the streams alone notice it."""
    return operation.c % 2 == 0


def _require_noticed(world: "LinkedWorld", name: str, *, reads_back: bool) -> None:
    """Send everything; then a receiver has a prefix of the publisher's log, or reports that the history changed.

    A relay that reads its topic back refuses to send if the topic has another history.
    """
    for receiver in receivers_of(name):
        while world.head(name) <= world.stream(receiver, name).last:
            _publish(world, name)
    _publish(world, name)
    has_stranger = _has_stranger(world, name)
    is_sending = chaos.relay(world, name, reads_back=reads_back)
    require(not (has_stranger and reads_back and is_sending), "strangers_are_noticed", name)
    if not is_sending:
        return
    chaos.republish(world, name, 0)
    chaos.relay(world, name, 10**6, reads_back=reads_back)
    for receiver in receivers_of(name):
        chaos.replicate(world, receiver, name, 10**6)
        state = world.stream(receiver, name)
        if state.history_change is None:
            require(holds_prefix(world, receiver, name), "lost_history_is_noticed", f"{receiver} of {name}: {state}")
            last = world.rows(name, OWN)[-1]
            require((state.last, state.last_id) == last, "lost_history_is_noticed", f"{receiver} of {name}: {state}")


def _has_stranger(world: "LinkedWorld", name: str) -> bool:
    """Return whether the topic still has an event of the service's log id that its log lacks."""
    own = own_events(world, name)
    ((log_id,),) = world.rows(name, "SELECT log_id FROM bus_relay")
    records = [parse_record(record) for record in world.topics[name].records if record is not None]
    return any(
        isinstance(record, EventRecord) and record.log_id == log_id and own.get(record.position) != record.id
        for record in records
    )


def holds_prefix(world: "LinkedWorld", receiver: str, origin: str) -> bool:
    """Return whether a receiver has exactly the subscribed events of the publisher's log up to its last one."""
    last = world.stream(receiver, origin).last
    names = SERVICES[receiver].subscriptions[origin]
    types = dict(world.rows(origin, "SELECT sequence, type FROM bus_log"))
    own = [(position, event_id) for position, event_id in world.rows(origin, OWN) if position <= last]
    held = world.rows(receiver, RECEIVED, origin)
    begun = world.begun_with
    return [each for each in held if each[0] > begun] == [
        each for each in own if each[0] > begun and name_of(types[each[0]]) in names
    ]

"""Backups, and what makes a restore necessary: lost commits, and a second database that publishes as one service."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from popug_cli.bus import stream_store
from popug_cli.bus.replicator import name_of
from popug_cli.kernel.randomness import uuid7
from popug_cli.messages.bus import ReadModelsRebuilt
from popug_cli.messages.principal import ANONYMOUS
from popug_cli.messages.services import SERVICES, receivers_of
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
    put_back(world, world.backup.directory, *SERVICES)
    world.trace = [*world.backup.trace]
    world.lives += 1
    log_ids = {name: uuid7(world.clock.instant, world.chance) for name in SERVICES}
    for name in SERVICES:
        lasts = [world.stream(receiver, name).last for receiver in receivers_of(name)]
        ((own,),) = world.rows(name, "SELECT position FROM bus_relay")
        with world.services[name].runtime.writing(ANONYMOUS) as context:
            stream_store.renew_log_ids(context, log_ids, min([*lasts, own]))
        if operation.a % 2:
            world.topics[name] = MemoryTopic(world.clock)
    back_up(world, operation)


def fail_over(world: "LinkedWorld", operation: Operation) -> None:
    """A service loses its last commits and goes on; what follows is noticed, then all are restored."""
    if world.backup is None:
        back_up(world, operation)
    name = tuple(SERVICES)[operation.a % len(SERVICES)]
    world.kill.where = ""
    put_back(world, world.backup.directory, name)
    _go_on(world, name, operation)
    _require_noticed(world, name)
    restore(world, operation)


def second_database(world: "LinkedWorld", operation: Operation) -> None:
    """A copy of a service publishes as that service; what follows is noticed, then all are restored."""
    name = tuple(SERVICES)[operation.a % len(SERVICES)]
    world.kill.where = ""
    if world.backup is None:
        back_up(world, operation)
    copy_databases(world, world.root / "twin")
    real, home = world.services[name], world.root / "twin" / name
    copy = world.open(name, home)
    for turn in range(2 + operation.b % 4):
        world.services[name] = copy if (operation.c >> turn) % 2 else real
        _go_on(world, name, operation)
        for receiver in receivers_of(name):
            if (operation.b >> turn) % 2:
                chaos.replicate(world, receiver, name, 1 + operation.c % 5)
    world.services[name] = real
    copy.close()
    _require_noticed(world, name)
    restore(world, operation)


def _go_on(world: "LinkedWorld", name: str, operation: Operation) -> None:
    """Publish some events of a service, and send them."""
    for _ in range(1 + operation.b % 3):
        _publish(world, name)
    chaos.relay(world, name)


def _publish(world: "LinkedWorld", name: str) -> None:
    with world.services[name].runtime.writing(ANONYMOUS) as context:
        context.events.publish(ReadModelsRebuilt(consumer=name, events=0))


def _require_noticed(world: "LinkedWorld", name: str) -> None:
    """Send everything; then a receiver has a prefix of the publisher's log, or reports that the history changed."""
    for receiver in receivers_of(name):
        while world.head(name) <= world.stream(receiver, name).last:
            _publish(world, name)
    _publish(world, name)
    chaos.republish(world, name, 0)
    chaos.relay(world, name, 10**6)
    for receiver in receivers_of(name):
        chaos.replicate(world, receiver, name, 10**6)
        state = world.stream(receiver, name)
        if state.history_change is None:
            require(holds_prefix(world, receiver, name), "lost_history_is_noticed", f"{receiver} of {name}: {state}")
            last = world.rows(name, OWN)[-1]
            require((state.last, state.last_id) == last, "lost_history_is_noticed", f"{receiver} of {name}: {state}")


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

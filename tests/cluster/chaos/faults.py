"""The faults of a chaos run. Each is injected while clients work, and healed some seconds later."""

import random
import signal
import time
from collections.abc import Callable
from typing import Any

import psycopg

from popug_cli.messages.services import SERVICES
from tests.cluster.brokers import BROKERS, START_SECONDS, Broker, registered
from tests.cluster.chaos.repeater import repeat_records
from tests.cluster.chaos.stage import PREFIX, SECOND, Stage
from tests.cluster.running_cluster import GATEWAY, ServerProcess
from tests.simulation.violation import Violation

Heal = Callable[[], None]
Fault = Callable[[Stage, random.Random], tuple[str, Heal]]
LOCK_SECONDS = 20  # the database ends an idle transaction after 10 s
CATCH_SECONDS = 8.0
SELECT_LOCKED = (
    "SELECT 1 FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE datname = current_database()"
    " AND state = 'idle in transaction' AND relation = 'bus_head'::regclass AND mode = 'RowExclusiveLock'"
    " AND backend_xid IS NOT NULL AND now() - state_change > interval '0.03 s'"
)
LONG_STOP_SECONDS = 13.0  # longer than the time-outs of sessions and of the leader


def kill_service(stage: Stage, chance: random.Random) -> tuple[str, Heal]:
    """Kill a process of a service (SIGKILL), and start it again."""
    return _kill(stage, chance, chance.choice([name for name in stage.processes if name != GATEWAY]))


def kill_leader(stage: Stage, chance: random.Random) -> tuple[str, Heal]:
    """Kill the process that relays and replicates for a service that has a second one."""
    return _kill(stage, chance, stage.leader_of(chance.choice([*SECOND.values()])))


def kill_gateway(stage: Stage, chance: random.Random) -> tuple[str, Heal]:
    """Kill the gateway, and start it again."""
    return _kill(stage, chance, GATEWAY)


def kill_broker(stage: Stage, chance: random.Random) -> tuple[str, Heal]:
    """Kill a broker, and start it again."""
    broker = _running_broker(stage, chance)
    broker.end(signal.SIGKILL)
    time.sleep(chance.uniform(0.2, 3.0))

    def heal() -> None:
        if not broker.is_running:
            broker.start()

    return f"broker {broker.number}", heal


def stop_broker(stage: Stage, chance: random.Random) -> tuple[str, Heal]:
    """Stop a broker (SIGSTOP), and let it go on."""
    broker = _running_broker(stage, chance)
    assert broker.process is not None
    broker.process.send_signal(signal.SIGSTOP)
    time.sleep(chance.uniform(0.5, 5.0))

    def heal() -> None:
        if broker.process is not None:
            broker.process.send_signal(signal.SIGCONT)

    return f"broker {broker.number}", heal


def fail_over(stage: Stage, chance: random.Random) -> tuple[str, Heal]:
    """Kill the primary of PostgreSQL and promote its standby, which gets a standby at the old address."""
    port = stage.databases.primary.port
    stage.databases.fail_over()
    time.sleep(chance.uniform(0.0, 2.0))
    return f"primary at {port}", stage.databases.restore


def stop_standby(stage: Stage, chance: random.Random) -> tuple[str, Heal]:
    """Stop the only standby, for which commits wait."""
    stage.databases.freeze_standby()
    time.sleep(chance.uniform(0.3, 3.0))
    return "", stage.databases.wake_standby


def stop_leader(stage: Stage, chance: random.Random) -> tuple[str, Heal]:
    """Stop the leader of a service during any work; another process leads, or it goes on later."""
    name = stage.leader_of(chance.choice([*SERVICES]))
    seconds = LONG_STOP_SECONDS if name in {*SECOND, *SECOND.values()} and chance.random() < 0.15 else None
    return _stop(stage.processes[name], seconds or chance.uniform(0.3, 4.0))


def stop_in_transaction(stage: Stage, chance: random.Random) -> tuple[str, Heal]:
    """Stop a process while it holds its service's write lock, for longer than the database waits for it.

    Raise ``Violation`` if it keeps the lock all the time. If no process could be caught, all go on at once.
    """
    service = chance.choice([*SERVICES])
    name = stage.leader_of(service)
    process = stage.processes[name]
    with stage.databases.primary.session(f"{PREFIX}_{service}") as session:
        session.autocommit = True
        is_caught = _catch(process, session)
        if is_caught:
            session.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
            try:
                session.execute("SELECT * FROM bus_head FOR UPDATE")
            except psycopg.errors.LockNotAvailable as error:
                _send(process, signal.SIGCONT)
                raise Violation("stopped_process_keeps_no_lock", f"{name} for {LOCK_SECONDS} s") from error
    return f"{name} {'with the lock' if is_caught else 'not caught'}", lambda: _send(process, signal.SIGCONT)


def _catch(process: ServerProcess, session: psycopg.Connection[Any]) -> bool:
    """Stop a process repeatedly until it is in a write transaction; return whether that succeeded."""
    deadline = time.monotonic() + CATCH_SECONDS
    while time.monotonic() < deadline:
        _send(process, signal.SIGSTOP)
        time.sleep(0.05)  # what it has sent is done
        if session.execute(SELECT_LOCKED).fetchone():
            return True
        _send(process, signal.SIGCONT)
        time.sleep(0.003)
    return False


def cut_route(stage: Stage, chance: random.Random) -> tuple[str, Heal]:
    """Cut a service off from the gateway and the other services."""
    service = chance.choice([*SERVICES])
    stage.routes[service].cut()
    time.sleep(chance.uniform(0.5, 4.0))
    with_reset = chance.random() < 0.5
    return service, lambda: stage.routes[service].heal(with_reset=with_reset)


def cut_broker(stage: Stage, chance: random.Random) -> tuple[str, Heal]:
    """Cut a broker off from its clients and its followers; it still reaches the others."""
    number = chance.randint(1, BROKERS)
    stage.brokers.proxies[number].cut()
    time.sleep(chance.uniform(0.5, 5.0))
    with_reset = chance.random() < 0.5
    return f"broker {number}", lambda: stage.brokers.proxies[number].heal(with_reset=with_reset)


def cut_database(stage: Stage, chance: random.Random) -> tuple[str, Heal]:
    """Cut the second process of a service off from the databases during any work."""
    name = chance.choice([*SECOND])
    for proxy in stage.database_proxies[name]:
        proxy.cut()
    time.sleep(LONG_STOP_SECONDS if chance.random() < 0.2 else chance.uniform(0.5, 4.0))
    with_reset = chance.random() < 0.7

    def heal() -> None:
        for proxy in stage.database_proxies[name]:
            proxy.heal(with_reset=with_reset)

    return name, heal


def jump(stage: Stage, chance: random.Random) -> tuple[str, Heal]:
    """Set the clock of one process wrong, forward or back."""
    name = chance.choice([*stage.processes])
    seconds = chance.choice((-1, 1)) * chance.uniform(6, 60)
    stage.jumps[name].set(seconds)
    time.sleep(chance.uniform(1.0, 5.0))
    return f"{name} by {seconds:.0f} s", lambda: stage.jumps[name].set(0)


def repeat(stage: Stage, chance: random.Random) -> tuple[str, Heal]:
    """Send old records of a topic again."""
    topic = f"{PREFIX}.{chance.choice(('identity', 'tasks', 'billing'))}"
    count = repeat_records(stage.brokers.address(), topic, chance)
    return f"{count} of {topic}", lambda: None


FAULTS: dict[str, tuple[Fault, int]] = {
    "kill service": (kill_service, 3),
    "kill leader": (kill_leader, 2),
    "kill gateway": (kill_gateway, 1),
    "kill broker": (kill_broker, 6),
    "stop broker": (stop_broker, 2),
    "failover": (fail_over, 4),
    "stop standby": (stop_standby, 1),
    "stop leader": (stop_leader, 4),
    "stop in transaction": (stop_in_transaction, 1),
    "cut route": (cut_route, 2),
    "cut broker": (cut_broker, 2),
    "cut database": (cut_database, 2),
    "jump clock": (jump, 1),
    "repeat records": (repeat, 3),
}


def _kill(stage: Stage, chance: random.Random, name: str) -> tuple[str, Heal]:
    process = stage.processes[name]
    process.end(signal.SIGKILL)
    time.sleep(chance.uniform(0.0, 1.5))

    def heal() -> None:
        if not process.is_running:
            process.begin()
            process.wait()

    return name, heal


def _stop(process: ServerProcess, seconds: float) -> tuple[str, Heal]:
    _send(process, signal.SIGSTOP)
    time.sleep(seconds)
    return f"{process.name} for {seconds:.1f} s", lambda: _send(process, signal.SIGCONT)


def _send(process: ServerProcess, number: int) -> None:
    """Send a signal to a process, unless an earlier fault has ended it."""
    if process.is_running:
        process.send(number)


def _running_broker(stage: Stage, chance: random.Random) -> Broker:
    return chance.choice([broker for broker in stage.brokers.brokers if broker.is_running])


def wait_for_brokers(stage: Stage) -> None:
    """Wait until all brokers are registered; two may have been down at once."""
    deadline = time.monotonic() + START_SECONDS
    while registered(stage.brokers.address()) < BROKERS:
        assert time.monotonic() < deadline, "the brokers are not registered"
        time.sleep(0.2)

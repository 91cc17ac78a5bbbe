"""One linked world from its seed to its result."""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from popug_cli.app import LocalBackend
from popug_cli.audit.doctor import examine as doctor
from popug_cli.bus.records import EventRecord, parse_record
from popug_cli.bus.relay import IS_OWN
from popug_cli.bus.replicator import name_of
from popug_cli.bus.service.coverage import COVERAGE, covered_positions
from popug_cli.bus.stream_store import origin_of
from popug_cli.cluster import links
from popug_cli.cluster.service_homes import create_service_homes
from popug_cli.identity.token_copies import COPIED_TABLES
from popug_cli.kernel.home import Home
from popug_cli.messages.principal import ANONYMOUS
from popug_cli.messages.services import SERVICES
from tests.simulation import place
from tests.simulation.chance import NamedChance
from tests.simulation.compare import State, require_equal
from tests.simulation.linked import chaos, disasters, versions
from tests.simulation.linked.chaos import STREAMS
from tests.simulation.linked.compare import module_tables, names_of_entries, published
from tests.simulation.linked.replay import Replay
from tests.simulation.linked.steps import STEPS
from tests.simulation.linked.topic import MemoryTopic
from tests.simulation.linked.trace import replay_order
from tests.simulation.linked.world import BEGINNING, LinkedWorld
from tests.simulation.plan import Operation, Plan
from tests.simulation.run import MEMORY, Verdict
from tests.simulation.violation import Violation, require
from tests.support.company import InProcess, SetClock

EXAMINED_EVERY = 100
COVERAGE_EXAMINED_EVERY = 20
UNCHECKED = frozenset({"schema", "foreign_keys"})
SELECT_RECEIVED = (
    "SELECT origin_position, type FROM bus_received JOIN bus_log USING (sequence) WHERE origin = ? AND sequence >"
    " coalesce((SELECT position FROM bus_cursors WHERE consumer = ?), 0) ORDER BY sequence"
)
SELECT_CAUSED = f"""
    SELECT sequence, json_extract(envelope, '$.causationid') FROM bus_log WHERE sequence > ? AND {IS_OWN}
"""


@contextmanager
def workshop(server_url: str = "") -> Iterator[Path]:
    """Yield a directory with the home of a company, and the homes of five services that were made from it."""
    assert not server_url, "the homes of services are on SQLite"
    with tempfile.TemporaryDirectory(prefix="popug-linked-", dir=MEMORY if MEMORY.is_dir() else None) as name:
        before, shop = tempfile.tempdir, Path(name)
        try:
            tempfile.tempdir = name
            _found(shop)
            yield shop
        finally:
            tempfile.tempdir = before


def _found(shop: Path) -> None:
    """A company with an admin, a manager, an accountant and two workers; each service has only its own tables."""
    company = InProcess(shop / "company")
    for name, role in (("mia", "manager"), ("carl", "accountant"), ("ann", "worker"), ("bob", "worker")):
        company.hire(name, role)
    company.backend.close()
    place.give_consumers_time(shop / "company")
    with closing(LocalBackend(Home(shop / "company"), clock=company.clock, randomness=company.chance)) as backend:
        homes = create_service_homes(backend, shop / "services")
    for service, home in homes.items():
        _drop_foreign_tables(service, home)


def _drop_foreign_tables(service: str, home: Home) -> None:
    """Drop the tables of other modules, so that a statement that reads them fails."""
    import sqlite3

    with closing(sqlite3.connect(home.database)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for table in tables:
            module = table.partition("_")[0]
            if module in SERVICES and module != service and table not in COPIED_TABLES:
                connection.execute(f"DROP TABLE {table}")
        connection.execute("VACUUM")


def run(plan: Plan, shop: Path) -> Verdict:
    """Run a plan, let one process repeat it, and compare."""
    verdict = Verdict()
    log, level = logging.getLogger("popug"), logging.getLogger("popug").level
    log.setLevel(logging.CRITICAL)  # ignored records and changed histories are planned here
    began = time.perf_counter()
    world = LinkedWorld(plan, shop / "services", shop / f"world-{os.getpid()}")
    try:
        _live(world, plan, verdict)
        require_equal(_end_state(world), _one_process(world, shop), "ends_like_one_process")
    except Violation as violation:
        verdict.name, verdict.detail = violation.name, str(violation)
    except Exception as error:
        verdict.name, verdict.detail = type(error).__name__, repr(error)
    finally:
        log.setLevel(level)
        versions.forget_newer()
        world.shut()
        shutil.rmtree(world.root)
    verdict.commands, verdict.events = world.commands, len(world.trace)
    verdict.seconds = time.perf_counter() - began
    return verdict


def _live(world: LinkedWorld, plan: Plan, verdict: Verdict) -> None:
    for operation in plan.operations:
        verdict.at = operation.place
        STEPS[operation.kind](world, operation)
        verdict.operations += 1
        if verdict.operations % EXAMINED_EVERY == 0:
            examine(world)
        if verdict.operations % COVERAGE_EXAMINED_EVERY == 0:
            examine_coverage(world)
    verdict.at = -1
    world.kill.where = ""
    world.settle_all()
    world.heal()
    world.settle_all()
    world.clock.advance(hours=1)  # longer than the lease of a mail that a killed process was sending
    STEPS["send_mail"](world, Operation(len(plan.operations), "send_mail", 0, 0, 0))
    examine(world)
    examine_topics(world)
    for name in SERVICES:
        ask_doctor(world, name)


def ask_doctor(world: LinkedWorld, service: str) -> None:
    """Check the health of a service; the tables that were dropped from its home are not looked for.

    The doctor of identity does not know the newer version of an event.
    """
    unchecked = UNCHECKED | ({"users_match_events"} if world.publishes_newer else set())
    with world.services[service].runtime.reading(ANONYMOUS) as context:
        checks = doctor(context).checks
    bad = [f"{check.name}: {check.detail}" for check in checks if not check.ok and check.name not in unchecked]
    require(not bad, "doctor", f"{service}: {bad}")


def examine_topics(world: LinkedWorld) -> None:
    """Check that the relay of each service sends all events whose origin is that service, and no others."""
    for name, backend in world.services.items():
        chaos.relay(world, name)  # a republish that nobody waited for may have set it back to before the beginning
        chaos.republish(world, name, world.begun_with)
        topic = MemoryTopic(world.clock)
        links.send_once(backend.runtime, topic, chaos.includes(world, name))
        sent = [record.id for each in topic.records if each and isinstance(record := parse_record(each), EventRecord)]
        rows = world.rows(
            name, "SELECT id, envelope FROM bus_log WHERE sequence > ? ORDER BY sequence", world.begun_with
        )
        own = [event_id for event_id, envelope in rows if origin_of(envelope) == name]
        require(sent == own, "own_events_are_sent", f"{name}: {len(sent)} of {len(own)}")


def examine(world: LinkedWorld) -> None:
    """Check that each receiver has a prefix of each log that it receives."""
    for service, origin in STREAMS:
        state = world.checked_stream(service, origin)
        require(
            disasters.holds_prefix(world, service, origin), "receivers_have_a_prefix", f"{service} of {origin}: {state}"
        )


def examine_coverage(world: LinkedWorld) -> None:
    """Check that a service which covers a position has what followed from it in the service that vouches for it."""
    for service, origins in COVERAGE.items():
        logs = world.received(service)
        covered = covered_positions(service, logs)
        for origin, position in covered.items():
            pending = _first_pending(world, service, origin)
            require(pending is None or position < pending, "covered_is_consumed", f"{service} of {origin}: {position}")
        for origin, via in origins.items():
            if via is None or origin not in covered or via not in logs:
                continue
            causes = dict(world.rows(origin, "SELECT id, sequence FROM bus_log WHERE sequence > ?", world.begun_with))
            for position, cause in world.rows(via, SELECT_CAUSED, world.begun_with):
                is_covered = causes.get(cause, covered[origin] + 1) <= covered[origin]
                detail = f"{service} covers {origin} {covered[origin]}, and lacks {via} {position}"
                require(not is_covered or position <= logs[via].consumed, "covered_effects_are_there", detail)


def _first_pending(world: LinkedWorld, service: str, origin: str) -> int | None:
    """Return the position of the first received event, in any version, that a consumer has not consumed."""
    first = []
    for consumer in world.services[service].consumers:
        rows = world.rows(service, SELECT_RECEIVED, origin, consumer.name)
        names = {name_of(type_) for type_ in consumer.types}
        first += [position for position, type_ in rows if name_of(type_) in names][:1]
    return min(first, default=None)


def _end_state(world: LinkedWorld) -> State:
    state = module_tables(lambda module: lambda statement: world.rows(module, statement))
    names = names_of_entries(lambda statement: world.rows("billing", statement))
    for name in SERVICES:
        own = world.rows(
            name,
            "SELECT envelope FROM bus_log WHERE sequence > ? AND sequence NOT IN (SELECT sequence FROM bus_received)"
            " AND type NOT LIKE 'popug.bus.%'",
            world.begun_with,
        )
        state[f"events of {name}"] = published((envelope for (envelope,) in own), names)
    return state


def _one_process(world: LinkedWorld, shop: Path) -> State:
    home = shop / f"one-{os.getpid()}"
    shutil.copytree(shop / "company", home)
    replay = Replay(home, NamedChance(world.plan.seed), SetClock(BEGINNING))
    try:
        return replay.run(replay_order(world.trace))
    finally:
        replay.backend.close()
        shutil.rmtree(home)

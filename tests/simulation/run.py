"""One world from its seed to its result."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.simulation import patches, place
from tests.simulation.compare import State, end_state, require_equal
from tests.simulation.plan import Plan
from tests.simulation.violation import Violation
from tests.simulation.world import World
from tests.support.company import InProcess

MEMORY = Path("/dev/shm")


@dataclass(slots=True)
class Verdict:
    """The result of a world; ``at`` is the place of the operation that broke an invariant, -1 at the end."""

    operations: int = 0
    commands: int = 0
    events: int = 0
    seconds: float = 0.0
    name: str = ""
    detail: str = ""
    at: int = -1
    state: State = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.name


@contextmanager
def workshop(server_url: str = "") -> Iterator[Path]:
    """Yield a directory with a template home, in memory if possible; on a PostgreSQL server if there is a URL."""
    with tempfile.TemporaryDirectory(prefix="popug-simulation-", dir=MEMORY if MEMORY.is_dir() else None) as name:
        before, template = tempfile.tempdir, Path(name) / "template"
        try:
            tempfile.tempdir = name
            place.prepare(template, server_url)
            found_template(template)
            yield Path(name)
        finally:
            tempfile.tempdir = before
            place.remove(template)


def found_template(root: Path) -> None:
    """A company with an admin, two workers and an accountant, all consumers up to date."""
    company = InProcess(root)
    for name, role in (("ann", "worker"), ("bob", "worker"), ("carl", "accountant")):
        company.hire(name, role)
    company.backend.runtime.database.close()
    place.give_consumers_time(root)


def run(plan: Plan, shop: Path, *, keep_state: bool = False) -> Verdict:
    """Run a plan and, unless it is wild, let an undisturbed twin repeat its commands."""
    verdict = Verdict()
    began = time.perf_counter()
    world = World(plan, shop / "template", shop / f"world-{os.getpid()}")
    try:
        with patches.living_in(world):
            _live(world, plan, verdict)
            ended = end_state(world)
            verdict.state = ended if keep_state else {}
            if not plan.wild:
                require_equal(ended, _undisturbed(world, shop), "ends_like_the_undisturbed")
    except Violation as violation:
        verdict.name, verdict.detail = violation.name, str(violation)
    except Exception as error:
        verdict.name, verdict.detail = type(error).__name__, repr(error)
    finally:
        world.close()
    verdict.commands, verdict.events = len(world.did), world.model.sequence
    verdict.seconds = time.perf_counter() - began
    return verdict


def _live(world: World, plan: Plan, verdict: Verdict) -> None:
    for operation in plan.operations:
        verdict.at = operation.place
        world.step(operation)
        verdict.operations += 1
    verdict.at = -1
    world.finish()


def _undisturbed(world: World, shop: Path) -> State:
    """Return the end state of the same commands at the same instants, without faults.

    If the disturbed world skipped consumers between commands, the twin does so, too; otherwise consumers catch up after
    each command.
    """
    twin = World(world.plan, shop / "template", shop / f"twin-{os.getpid()}")
    try:
        with patches.living_in(twin):
            for did in world.did:
                twin.repeat(did)
            twin.heal_everything()
            return end_state(twin)
    finally:
        twin.close()

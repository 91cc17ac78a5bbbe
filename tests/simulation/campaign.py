"""Many worlds, in several processes, until the operations are done or an invariant is broken."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from tests.simulation.plan import Plan, only
from tests.simulation.run import Verdict
from tests.simulation.shrink import shrink

WORLD_OPERATIONS = 1_000
ONE_HOME = "tests.simulation"
SHRINK_SECONDS = 90.0
_shop: list[Path] = []


class Order(NamedTuple):
    """One world to run: the seed of the campaign and its number, how long, and which operations if not all.

    It runs on a PostgreSQL server if there is a ``server_url``. ``package`` has its modules ``plan`` and ``run``.
    """

    seed: int
    world: int
    length: int
    keep: tuple[int, ...] | None = None
    server_url: str = ""
    package: str = ONE_HOME

    def plan(self) -> Plan:
        """Return the plan of the world."""
        whole: Plan = import_module(f"{self.package}.plan").plan(f"{self.seed}:{self.world}", self.length)
        return whole if self.keep is None else only(whole, self.keep)

    def run(self, shop: Path) -> Verdict:
        """Run the world in a directory that ``workshop`` has made."""
        verdict: Verdict = import_module(f"{self.package}.run").run(self.plan(), shop)
        return verdict


@dataclass
class Tally:
    """Results of the worlds so far."""

    operations: int = 0
    commands: int = 0
    events: int = 0
    worlds: int = 0
    wild: int = 0
    seconds: float = 0.0
    failed: tuple[Order, Verdict] | None = None
    kinds: dict[str, int] = field(default_factory=dict)

    def add(self, order: Order, verdict: Verdict) -> None:
        """Count one more world."""
        self.operations += verdict.operations
        self.commands += verdict.commands
        self.events += verdict.events
        self.worlds += 1
        self.wild += order.plan().wild
        if not verdict.ok and self.failed is None:
            self.failed = (order, verdict)


Watch = Callable[[Tally], None]


def workshop(package: str, server_url: str) -> AbstractContextManager[Path]:
    """Return a context manager for a directory with what the worlds of a package begin with."""
    made: AbstractContextManager[Path] = import_module(f"{package}.run").workshop(server_url)
    return made


def orders(
    seed: int, operations: int, length: int = WORLD_OPERATIONS, server_url: str = "", package: str = ONE_HOME
) -> Iterator[Order]:
    """Yield worlds with that many operations in all."""
    world = 0
    while operations > 0:
        yield Order(seed, world, min(length, operations), server_url=server_url, package=package)
        operations -= length
        world += 1


def campaign(
    seed: int,
    operations: int,
    *,
    jobs: int,
    watch: Watch,
    length: int = WORLD_OPERATIONS,
    server_url: str = "",
    package: str = ONE_HOME,
) -> Tally:
    """Run one world after another; stop at the first with a broken invariant."""
    tally, began = Tally(), time.perf_counter()
    with _living(jobs, server_url, package) as live:
        for order, verdict in live(orders(seed, operations, length, server_url, package)):
            tally.add(order, verdict)
            tally.seconds = time.perf_counter() - began
            watch(tally)
            if tally.failed:
                break
    return tally


def live_once(order: Order) -> Verdict:
    """Run one world in its own temporary folder."""
    with workshop(order.package, order.server_url) as shop:
        return order.run(shop)


def shrunk(order: Order, verdict: Verdict, *, seconds: float = SHRINK_SECONDS) -> tuple[Order, Verdict]:
    """Return the order with the fewest operations that break the same invariant, and its result."""
    places = [each.place for each in order.plan().operations if verdict.at < 0 or each.place <= verdict.at]
    with workshop(order.package, order.server_url) as shop:

        def attempt(kept: list[int]) -> Verdict:
            return order._replace(keep=tuple(kept)).run(shop)

        if attempt(places).name != verdict.name:
            return order, verdict
        kept = shrink(places, lambda some: attempt(list(some)).name == verdict.name, seconds=seconds)
        return order._replace(keep=tuple(kept)), attempt(kept)


@contextmanager
def _living(
    jobs: int, server_url: str, package: str
) -> Iterator[Callable[[Iterator[Order]], Iterator[tuple[Order, Verdict]]]]:
    if jobs == 1:
        with workshop(package, server_url) as shop:
            yield lambda every: ((order, order.run(shop)) for order in every)
        return
    with workshop(package, server_url) as shop, get_context("spawn").Pool(jobs, _move_in, (shop,)) as pool:
        yield lambda every: pool.imap_unordered(_live, every)


def _move_in(shop: Path) -> None:
    import tempfile

    tempfile.tempdir = str(shop)
    _shop.append(shop)


def _live(order: Order) -> tuple[Order, Verdict]:
    os.environ.pop("POPUG_HOME", None)
    return order, order.run(_shop[0])

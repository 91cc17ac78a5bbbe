"""Many worlds, in several processes, until the operations are done or an invariant is broken."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from tests.simulation.plan import Plan, only, plan
from tests.simulation.run import Verdict, run, workshop
from tests.simulation.shrink import shrink

WORLD_OPERATIONS = 1_000
SHRINK_SECONDS = 90.0
_shop: list[Path] = []


class Order(NamedTuple):
    """One world to run: the seed of the campaign and its number, how long, and which operations if not all.

    It runs on a PostgreSQL server if there is a ``server_url``.
    """

    seed: int
    world: int
    length: int
    keep: tuple[int, ...] | None = None
    server_url: str = ""

    def plan(self) -> Plan:
        """Return the plan of the world."""
        whole = plan(f"{self.seed}:{self.world}", self.length)
        return whole if self.keep is None else only(whole, self.keep)


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


def orders(seed: int, operations: int, length: int = WORLD_OPERATIONS, server_url: str = "") -> Iterator[Order]:
    """Yield worlds with that many operations in all."""
    world = 0
    while operations > 0:
        yield Order(seed, world, min(length, operations), server_url=server_url)
        operations -= length
        world += 1


def campaign(
    seed: int, operations: int, *, jobs: int, watch: Watch, length: int = WORLD_OPERATIONS, server_url: str = ""
) -> Tally:
    """Run one world after another; stop at the first with a broken invariant."""
    tally, began = Tally(), time.perf_counter()
    with _living(jobs, server_url) as live:
        for order, verdict in live(orders(seed, operations, length, server_url)):
            tally.add(order, verdict)
            tally.seconds = time.perf_counter() - began
            watch(tally)
            if tally.failed:
                break
    return tally


def live_once(order: Order) -> Verdict:
    """Run one world in its own temporary folder."""
    with workshop(order.server_url) as shop:
        return run(order.plan(), shop)


def shrunk(order: Order, verdict: Verdict, *, seconds: float = SHRINK_SECONDS) -> tuple[Order, Verdict]:
    """Return the order with the fewest operations that break the same invariant, and its result."""
    places = [each.place for each in order.plan().operations if verdict.at < 0 or each.place <= verdict.at]
    with workshop(order.server_url) as shop:

        def attempt(kept: list[int]) -> Verdict:
            return run(order._replace(keep=tuple(kept)).plan(), shop)

        if attempt(places).name != verdict.name:
            return order, verdict
        kept = shrink(places, lambda some: attempt(list(some)).name == verdict.name, seconds=seconds)
        return order._replace(keep=tuple(kept)), attempt(kept)


@contextmanager
def _living(jobs: int, server_url: str) -> Iterator[Callable[[Iterator[Order]], Iterator[tuple[Order, Verdict]]]]:
    if jobs == 1:
        with workshop(server_url) as shop:
            yield lambda every: ((order, run(order.plan(), shop)) for order in every)
        return
    with workshop(server_url) as shop, get_context("spawn").Pool(jobs, _move_in, (shop,)) as pool:
        yield lambda every: pool.imap_unordered(_live, every)


def _move_in(shop: Path) -> None:
    import tempfile

    tempfile.tempdir = str(shop)
    _shop.append(shop)


def _live(order: Order) -> tuple[Order, Verdict]:
    os.environ.pop("POPUG_HOME", None)
    return order, run(order.plan(), _shop[0])

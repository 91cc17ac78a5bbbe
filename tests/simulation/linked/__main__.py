"""``python -m tests.simulation.linked``: five linked homes from a seed, with every kind of fault.

python -m tests.simulation.linked --operations 1000000    the long run
python -m tests.simulation.linked --bugs                  which planted bug is found, and how soon
python -m tests.simulation.linked --bug offset-first      one of them
"""

# ruff: noqa: T201 - it is a program that prints

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

from tests.simulation.bugs import planted
from tests.simulation.linked.bugs import LINKED_BUGS
from tests.simulation.plan import read_places, spell
from tests.simulation.progress import bar

if TYPE_CHECKING:
    from tests.simulation.campaign import Order, Tally
    from tests.simulation.run import Verdict

ONLY_ON_SERVERS = (
    "positions that a database sequence gives",
    "an asynchronous commit with a failover",
    "a claim that only reads",
    "a stopped service that keeps the write lock",
)
DEFAULT_OPERATIONS = 2_000
BUG_OPERATIONS = 40_000
LENGTH = 500
BUG_LENGTH = 250


def main(arguments: list[str] | None = None) -> int:
    """Return 1 if something did not hold, or a planted bug was not found."""
    chosen = _parser().parse_args(arguments)
    if chosen.bugs:
        return _table_of_bugs(chosen.seed)
    with planted(chosen.bug, LINKED_BUGS) if chosen.bug else nullcontext():
        return _one(chosen) if chosen.world is not None else _many(chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.linked", description="Simulate five linked services from a seed."
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--operations", type=int, default=DEFAULT_OPERATIONS, help="commands and disturbances, in all worlds"
    )
    parser.add_argument("--length", type=int, default=LENGTH, help="operations of a world")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--bug", choices=sorted(LINKED_BUGS), help="plant a bug in a copy of the program")
    parser.add_argument("--bugs", action="store_true", help="plant each bug and print which is found after how much")
    parser.add_argument("--world", type=int, help="replay one world of the seed")
    parser.add_argument("--keep", type=read_places, help="of that world only these operations: 1-3,7")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=sys.stderr.isatty())
    parser.add_argument("--shrink", action=argparse.BooleanOptionalAction, default=True)
    return parser


def _many(chosen: argparse.Namespace) -> int:
    from tests.simulation.campaign import LINKED_HOMES, campaign, shrunk

    def watch(tally: Tally) -> None:
        if chosen.progress:
            print(f"\r{bar(tally.operations, chosen.operations)} {_figures(tally)}", end="", file=sys.stderr)

    jobs = 1 if chosen.bug else chosen.jobs
    tally = campaign(chosen.seed, chosen.operations, jobs=jobs, watch=watch, length=chosen.length, package=LINKED_HOMES)
    if chosen.progress:
        print(file=sys.stderr)
    print(f"seed {chosen.seed}: {_figures(tally)}, {'something does not hold' if tally.failed else 'everything holds'}")
    if tally.failed is None:
        return 0
    order, verdict = tally.failed
    if chosen.shrink:
        print(f"{verdict.detail}\nshrinking …", flush=True)
        order, verdict = shrunk(order, verdict)
    _report(order, verdict, chosen.bug)
    return 1


def _one(chosen: argparse.Namespace) -> int:
    from tests.simulation.campaign import LINKED_HOMES, Order, live_once

    keep = tuple(chosen.keep) if chosen.keep else None
    order = Order(chosen.seed, chosen.world, chosen.length, keep, package=LINKED_HOMES)
    verdict = live_once(order)
    _report(order, verdict, chosen.bug)
    return 0 if verdict.ok else 1


def _report(order: Order, verdict: Verdict, bug: str | None) -> None:
    every = order.plan().operations
    print(f"world {order.world} of seed {order.seed}: {len(every)} operations")
    if len(every) <= 40:
        print("  " + " ".join(f"{each.place}:{each.kind}" for each in every))
    print(verdict.detail or "everything holds")
    if not verdict.ok:
        print(f"replay: {replay_line(order, bug)}")


def replay_line(order: Order, bug: str | None) -> str:
    """Return the command that repeats the run."""
    line = f"python -m tests.simulation.linked --seed {order.seed} --world {order.world} --length {order.length}"
    line += f" --keep {spell(order.keep)}" if order.keep is not None else ""
    return line + (f" --bug {bug}" if bug else "")


def _figures(tally: Tally) -> str:
    speed = tally.operations / max(tally.seconds, 1e-9)
    return (
        f"{tally.operations:,} operations ({tally.commands:,} commands) in {tally.worlds:,} worlds"
        f" ({tally.wild:,} with disasters), {tally.seconds:,.1f} s, {speed:,.0f} a second"
    )


def _table_of_bugs(seed: int) -> int:
    """Try each bug in its own process, since the program is imported once."""
    print(f"{'bug':24}{'found by':34}{'operations':>11}{'seconds':>9}")
    missed = 0
    for name in LINKED_BUGS:
        began = time.perf_counter()
        found, after = hunt(name, seed)
        missed += found is None
        print(f"{name:24}{found or 'NOT FOUND':34}{after:>11,}{time.perf_counter() - began:>9.1f}", flush=True)
    print("Only servers can show: " + "; ".join(ONLY_ON_SERVERS) + ".")
    return 1 if missed else 0


def hunt(name: str, seed: int = 1, operations: int = BUG_OPERATIONS) -> tuple[str | None, int]:
    """Return what finds a planted bug, and after how many operations; None if nothing does."""
    line = [sys.executable, "-m", "tests.simulation.linked", "--bug", name, "--seed", str(seed)]
    line += ["--operations", str(operations), "--length", str(BUG_LENGTH), "--no-shrink", "--no-progress"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or " operations (" not in done.stdout:
        raise RuntimeError(done.stdout + done.stderr)
    lines = done.stdout.splitlines()
    after = int(lines[0].split(": ")[1].split(" operations")[0].replace(",", ""))
    return (lines[2].split(":")[0] if done.returncode else None), after


if __name__ == "__main__":
    sys.exit(main())

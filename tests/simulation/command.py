"""The parts that the commands of simulations share: options, campaigns, reports, and the table of planted bugs."""

# ruff: noqa: T201 - they are programs that print

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.bugs import Bug
from tests.simulation.plan import read_places, spell

if TYPE_CHECKING:
    from tests.simulation.campaign import Order, Tally
    from tests.simulation.run import Verdict

COLUMNS = 30


class Simulation(NamedTuple):
    """A simulation of worlds from a seed. ``package`` has its modules ``plan`` and ``run``, and is its command.

    ``bugs`` can be planted, and ``--bugs`` hunts the ``hunted`` ones, in worlds of ``bug_length`` operations. ``sound``
    and ``unsound`` say the result of a campaign.
    """

    package: str
    description: str
    bugs: Mapping[str, Bug]
    hunted: Collection[str]
    operations: int
    length: int
    bug_operations: int
    bug_length: int
    sound: str
    unsound: str


def bar(done: int, total: int) -> str:
    """Return a bar and a percentage; work beyond the total is not shown."""
    done = min(done, total)
    filled = COLUMNS * done // max(1, total)
    return f"[{'#' * filled}{'.' * (COLUMNS - filled)}] {100 * done // max(1, total):3}%"


def parser_of(simulation: Simulation) -> argparse.ArgumentParser:
    """Return the parser of a simulation's command."""
    parser = argparse.ArgumentParser(prog=f"python -m {simulation.package}", description=simulation.description)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--operations", type=int, default=simulation.operations, help="commands and disturbances, in all worlds"
    )
    parser.add_argument("--length", type=int, default=simulation.length, help="operations of a world")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--bug", choices=sorted(simulation.bugs), help="plant a bug in a copy of the program")
    parser.add_argument("--bugs", action="store_true", help="plant each bug and print which is found after how much")
    parser.add_argument("--world", type=int, help="replay one world of the seed")
    parser.add_argument("--keep", type=read_places, help="of that world only these operations: 1-3,7")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=sys.stderr.isatty())
    parser.add_argument("--shrink", action=argparse.BooleanOptionalAction, default=True)
    parser.set_defaults(server_url="")
    return parser


def run(simulation: Simulation, chosen: argparse.Namespace) -> int:
    """Run the chosen world or campaign; return 1 if it found a fault. A bug must be planted before."""
    return _one(simulation, chosen) if chosen.world is not None else _many(simulation, chosen)


def _many(simulation: Simulation, chosen: argparse.Namespace) -> int:
    from tests.simulation.campaign import campaign, shrunk

    def watch(tally: Tally) -> None:
        if chosen.progress:
            print(f"\r{bar(tally.operations, chosen.operations)} {_figures(tally)}", end="", file=sys.stderr)

    tally = campaign(
        chosen.seed,
        chosen.operations,
        jobs=1 if chosen.bug else chosen.jobs,
        watch=watch,
        length=chosen.length,
        server_url=chosen.server_url,
        package=simulation.package,
    )
    if chosen.progress:
        print(file=sys.stderr)
    print(f"seed {chosen.seed}: {_figures(tally)}, {simulation.unsound if tally.failed else simulation.sound}")
    if tally.failed is None:
        return 0
    order, verdict = tally.failed
    if chosen.shrink:
        print(f"{verdict.detail}\nshrinking …", flush=True)
        order, verdict = shrunk(order, verdict)
    _report(order, verdict, chosen.bug)
    return 1


def _one(simulation: Simulation, chosen: argparse.Namespace) -> int:
    from tests.simulation.campaign import Order, live_once

    keep = tuple(chosen.keep) if chosen.keep else None
    order = Order(chosen.seed, chosen.world, chosen.length, keep, chosen.server_url, simulation.package)
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
    line = f"python -m {order.package} --seed {order.seed} --world {order.world} --length {order.length}"
    line += f" --keep {spell(order.keep)}" if order.keep is not None else ""
    line += " --postgres" if order.server_url else ""
    return line + (f" --bug {bug}" if bug else "")


def _figures(tally: Tally) -> str:
    speed = tally.operations / max(tally.seconds, 1e-9)
    return (
        f"{tally.operations:,} operations ({tally.commands:,} commands, {tally.events:,} events) in {tally.worlds:,}"
        f" worlds ({tally.wild:,} wild), {tally.seconds:,.1f} s, {speed:,.0f} a second"
    )


def print_bugs(simulation: Simulation, seed: int) -> int:
    """Hunt each bug in its own process, since the program is imported once; return 1 if one is not found."""
    print(f"{'bug':24}{'found by':34}{'operations':>11}{'seconds':>9}")
    missed = 0
    for name in simulation.hunted:
        began = time.perf_counter()
        found, after = hunt(simulation, name, seed)
        missed += found is None
        print(f"{name:24}{found or 'NOT FOUND':34}{after:>11,}{time.perf_counter() - began:>9.1f}", flush=True)
    return 1 if missed else 0


def hunt(simulation: Simulation, name: str, seed: int = 1) -> tuple[str | None, int]:
    """Return the rule that finds a planted bug, or None, and after how many operations."""
    line = [
        sys.executable,
        "-m",
        simulation.package,
        "--bug",
        name,
        "--seed",
        str(seed),
        "--no-shrink",
        "--no-progress",
    ]
    line += ["--operations", str(simulation.bug_operations), "--length", str(simulation.bug_length)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or " operations (" not in done.stdout:
        raise RuntimeError(done.stdout + done.stderr)
    lines = done.stdout.splitlines()
    after = int(lines[0].split(": ")[1].split(" operations")[0].replace(",", ""))
    return (lines[2].split(":")[0] if done.returncode else None), after

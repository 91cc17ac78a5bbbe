"""``python -m tests.simulation``: worlds from a seed, with every kind of fault.

python -m tests.simulation --operations 1000000     the long run
python -m tests.simulation --postgres               on a PostgreSQL server, which is started for it
python -m tests.simulation --bugs                   which planted bug is found, and how soon
python -m tests.simulation --bug no-inbox           one of them
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

from tests.simulation.bugs import BUGS, DISK_BUGS, planted
from tests.simulation.plan import read_places, spell
from tests.simulation.progress import bar
from tests.support.postgres.harness import harness_server

if TYPE_CHECKING:
    from tests.simulation.campaign import Order, Tally
    from tests.simulation.run import Verdict

BUG_OPERATIONS = 10_000


def main(arguments: list[str] | None = None) -> int:
    """Return 1 if an invariant was broken."""
    chosen = _parser().parse_args(arguments)
    if chosen.bugs:
        return _table_of_bugs(chosen.seed)
    with (
        planted(chosen.bug, DISK_BUGS | BUGS) if chosen.bug else nullcontext(),
        harness_server() if chosen.postgres else nullcontext("") as chosen.server_url,
    ):
        return _one(chosen) if chosen.world is not None else _many(chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Simulate companies from a seed.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operations", type=int, default=20_000, help="commands and disturbances, in all worlds")
    parser.add_argument("--length", type=int, default=1_000, help="operations of a world")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--bug", choices=sorted(BUGS | DISK_BUGS), help="plant a bug in a copy of the program")
    parser.add_argument("--bugs", action="store_true", help="plant each bug and print which is found after how much")
    parser.add_argument("--world", type=int, help="replay one world of the seed")
    parser.add_argument("--keep", type=read_places, help="of that world only these operations: 1-3,7")
    parser.add_argument(
        "--postgres", action="store_true", help="start a PostgreSQL server, and let all worlds be on it"
    )
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=sys.stderr.isatty())
    parser.add_argument("--shrink", action=argparse.BooleanOptionalAction, default=True)
    return parser


def _many(chosen: argparse.Namespace) -> int:
    from tests.simulation.campaign import campaign, shrunk

    jobs = 1 if chosen.bug else chosen.jobs

    def watch(tally: Tally) -> None:
        if chosen.progress:
            print(f"\r{bar(tally.operations, chosen.operations)} {_figures(tally)}", end="", file=sys.stderr)

    tally = campaign(
        chosen.seed, chosen.operations, jobs=jobs, watch=watch, length=chosen.length, server_url=chosen.server_url
    )
    if chosen.progress:
        print(file=sys.stderr)
    print(f"seed {chosen.seed}: {_figures(tally)}, {'a broken invariant' if tally.failed else '0 broken invariants'}")
    if tally.failed is None:
        return 0
    order, verdict = tally.failed
    if chosen.shrink:
        print(f"{verdict.detail}\nshrinking …", flush=True)
        order, verdict = shrunk(order, verdict)
    _tell(order, verdict, chosen.bug)
    return 1


def _one(chosen: argparse.Namespace) -> int:
    from tests.simulation.campaign import Order, live_once

    keep = tuple(chosen.keep) if chosen.keep else None
    order = Order(chosen.seed, chosen.world, chosen.length, keep, chosen.server_url)
    verdict = live_once(order)
    _tell(order, verdict, chosen.bug)
    return 0 if verdict.ok else 1


def _tell(order: Order, verdict: Verdict, bug: str | None) -> None:
    every = order.plan().operations
    print(f"world {order.world} of seed {order.seed}: {len(every)} operations")
    if len(every) <= 40:
        print("  " + " ".join(f"{each.place}:{each.kind}" for each in every))
    print(verdict.detail or "everything holds")
    if not verdict.ok:
        print(f"replay: {replay_line(order, bug)}")


def replay_line(order: Order, bug: str | None) -> str:
    """Return the command that repeats the run."""
    line = f"python -m tests.simulation --seed {order.seed} --world {order.world} --length {order.length}"
    line += f" --keep {spell(order.keep)}" if order.keep is not None else ""
    line += " --postgres" if order.server_url else ""
    return line + (f" --bug {bug}" if bug else "")


def _figures(tally: Tally) -> str:
    speed = tally.operations / max(tally.seconds, 1e-9)
    return (
        f"{tally.operations:,} operations ({tally.commands:,} commands, {tally.events:,} events) in {tally.worlds:,}"
        f" worlds ({tally.wild:,} wild), {tally.seconds:,.1f} s, {speed:,.0f} a second"
    )


def _table_of_bugs(seed: int) -> int:
    """Try each bug in its own process, since the program is imported once."""
    print(f"{'bug':24}{'found by':34}{'operations':>11}{'seconds':>9}")
    missed = 0
    for name in BUGS:
        began = time.perf_counter()
        found, after = hunt(name, seed)
        missed += found is None
        print(f"{name:24}{found or 'NOT FOUND':34}{after:>11,}{time.perf_counter() - began:>9.1f}", flush=True)
    return 1 if missed else 0


def hunt(name: str, seed: int = 1) -> tuple[str | None, int]:
    """Return the invariant that finds a planted bug, and after how many operations."""
    line = [sys.executable, "-m", __package__ or "tests.simulation", "--bug", name, "--seed", str(seed)]
    line += ["--operations", str(BUG_OPERATIONS), "--length", "400", "--no-shrink", "--no-progress"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or " operations (" not in done.stdout:
        raise RuntimeError(done.stdout + done.stderr)
    lines = done.stdout.splitlines()
    after = int(lines[0].split(": ")[1].split(" operations")[0].replace(",", ""))
    return (lines[2].split(":")[0] if done.returncode else None), after


if __name__ == "__main__":
    sys.exit(main())

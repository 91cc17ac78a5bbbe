"""The common command line of the disk harnesses: a seed, a bar, a bug to plant, a line that replays."""

# ruff: noqa: T201 - it is a part of programs that print

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.bugs import DISK_BUGS, planted
from tests.simulation.command import bar
from tests.simulation.disk import fault_shim

if TYPE_CHECKING:
    from tests.simulation.disk.campaign import Tally, Try

CANNOT_RUN = 77


class Harness(NamedTuple):
    """A harness: its name as a module, its unit of work, and how many units it tries by default."""

    name: str
    about: str
    trials: str
    default: int
    attempt: Callable[[argparse.Namespace], "Try"]
    options: Callable[[argparse.ArgumentParser], None] = lambda parser: None


def run(harness: Harness, arguments: list[str] | None = None) -> int:
    """Return 1 if a rule was broken, 77 if the machine cannot run the harness."""
    given = sys.argv[1:] if arguments is None else arguments
    chosen = _parser(harness).parse_args(given)
    if not fault_shim.is_preloaded():
        try:
            return fault_shim.run_preloaded(f"tests.simulation.{harness.name}", given)
        except fault_shim.NotPossible as reason:
            print(f"{harness.name}: not run: {reason}", file=sys.stderr)
            return CANNOT_RUN
    with planted(chosen.bug, DISK_BUGS) if chosen.bug else nullcontext():
        try:
            return _one(harness, chosen) if chosen.step is not None else _many(harness, chosen)
        except KeyboardInterrupt:
            print("\ninterrupted", file=sys.stderr)
            return 130


def _parser(harness: Harness) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m tests.simulation.{harness.name}", description=harness.about)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(f"--{harness.trials}", dest="trials", type=int, default=harness.default, help="how many to try")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", metavar="NAME", help="only commands of the day with this in their name")
    parser.add_argument("--bug", choices=sorted(DISK_BUGS), help="plant a bug in a copy of the program")
    parser.add_argument("--day", type=int, default=0, help="replay: the day of the seed")
    parser.add_argument("--step", type=int, help="replay: the command of the day")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=sys.stderr.isatty())
    harness.options(parser)
    return parser


def _many(harness: Harness, chosen: argparse.Namespace) -> int:
    from tests.simulation.disk.campaign import Order, campaign

    def watch(tally: "Tally") -> None:
        if chosen.progress:
            print(f"\r{bar(tally.trials, chosen.trials)} {_figures(harness, tally)}", end="", file=sys.stderr)

    order = Order(chosen.seed, chosen.trials, chosen.jobs, chosen.only)
    tally = campaign(harness.attempt(chosen), order, watch)
    if chosen.progress:
        print(file=sys.stderr)
    found = "something does not hold" if tally.failed else "all held"
    found += "" if tally.failed or tally.trials >= chosen.trials else ", interrupted"
    print(f"seed {chosen.seed}: {_figures(harness, tally)}, {found}")
    if tally.failed is None:
        return 0
    print(tally.failed.violation)
    print(f"replay: {_replay_line(harness, tally.failed.place, chosen.bug)}")
    return 1


def _one(harness: Harness, chosen: argparse.Namespace) -> int:
    from tests.simulation.disk.campaign import Task, workshop
    from tests.simulation.disk.scenario import build

    with workshop() as shop:
        day = build(f"{chosen.seed}:{chosen.day}", shop / "day")
        step = day.step(chosen.step)
        print(f"step {step.number} of day {chosen.day}: popug {' '.join(step.order.line)}")
        task: Task = Task(day, step.number, f"{day.seed}/{step.number}", 1, shop / "replay")
        for finding in harness.attempt(chosen)(task):
            print(finding.violation or "all holds")
            return 1 if finding.violation else 0
    print("there is no such point")
    return 2


def _replay_line(harness: Harness, place: str, bug: str | None) -> str:
    return f"python -m tests.simulation.{harness.name} {place}" + (f" --bug {bug}" if bug else "")


def _figures(harness: Harness, tally: "Tally") -> str:
    speed = tally.trials / max(tally.seconds, 1e-9)
    different = f"{tally.trials - tally.seen:,} different when recovered"
    return (
        f"{tally.trials:,} {harness.trials} of {tally.days or 1:,} days ({different}),"
        f" {tally.seconds:,.1f} s, {speed:,.1f} a second"
    )

"""``python -m tests.simulation.machine``: companies driven by Hypothesis, compared with a model of the rules.

python -m tests.simulation.machine --operations 1000000     the long run
python -m tests.simulation.machine --bug price-redrawn      with a bug planted
"""

# ruff: noqa: T201 - it is a program that prints

import argparse
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

from tests.simulation.bugs import BUGS, DISK_BUGS, planted
from tests.simulation.command import bar

if TYPE_CHECKING:
    from tests.simulation.machine.campaign import Tally


def main(arguments: list[str] | None = None) -> int:
    """Return 1 if a rule was broken."""
    chosen = _parser().parse_args(arguments)
    with planted(chosen.bug, BUGS | DISK_BUGS) if chosen.bug else nullcontext():
        return _run(chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.machine", description="Compare companies with the rules of the game."
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operations", type=int, default=10_000, help="steps of all companies together")
    parser.add_argument("--chunk", type=int, default=0, help="replay: begin with this part of the seed")
    parser.add_argument("--bug", choices=sorted(BUGS | DISK_BUGS), help="plant a bug in a copy of the program")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=sys.stderr.isatty())
    parser.add_argument("--shrink", action=argparse.BooleanOptionalAction, default=True)
    return parser


def _run(chosen: argparse.Namespace) -> int:
    from tests.simulation.machine.campaign import campaign

    def watch(tally: "Tally") -> None:
        if chosen.progress:
            print(f"\r{bar(tally.operations, chosen.operations)} {_figures(tally)}", end="", file=sys.stderr)

    tally = campaign(chosen.seed, chosen.operations, watch=watch, shrink=chosen.shrink, first_chunk=chosen.chunk)
    if chosen.progress:
        print(file=sys.stderr)
    print(f"seed {chosen.seed}: {_figures(tally)}, {'a broken rule' if tally.failed else '0 broken rules'}")
    if not tally.failed:
        return 0
    print(f"{tally.failed}\nreplay: {replay_line(chosen, tally.chunk)}")
    return 1


def replay_line(chosen: argparse.Namespace, chunk: int) -> str:
    """Return the command that repeats the run."""
    line = f"python -m tests.simulation.machine --seed {chosen.seed} --chunk {chunk} --operations {chosen.operations}"
    return line + (f" --bug {chosen.bug}" if chosen.bug else "")


def _figures(tally: "Tally") -> str:
    return f"{tally.operations:,} operations in {tally.companies:,} companies, {tally.seconds:,.1f} s"


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tests.simulation.harnesses``: plant bugs, each of which at least one harness must find.

python -m tests.simulation.harnesses                                  the table of bugs and harnesses
python -m tests.simulation.harnesses --bugs synchronous-off           one row of it
python -m tests.simulation.harnesses --round 30                       trials of each disk harness on one scenario
"""

# ruff: noqa: T201 - it is a program that prints

import argparse
import sys

from tests.simulation.bugs import DISK_BUGS
from tests.simulation.disk import fault_shim
from tests.simulation.disk.command import CANNOT_RUN
from tests.simulation.harnesses.table import HARNESSES, Cell, hunt


def main(arguments: list[str] | None = None) -> int:
    """Return 1 if no harness finds a bug, or a trial fails; 77 if the machine cannot run it."""
    given = sys.argv[1:] if arguments is None else arguments
    chosen = _parser().parse_args(given)
    if chosen.round and not fault_shim.is_preloaded():
        try:
            return fault_shim.run_preloaded("tests.simulation.harnesses", given)
        except fault_shim.NotPossible as reason:
            print(f"harnesses: not run: {reason}", file=sys.stderr)
            return CANNOT_RUN
    return _round(chosen.seed, chosen.round) if chosen.round else _table(chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.harnesses", description="Show what harnesses see."
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bugs", nargs="+", choices=sorted(DISK_BUGS), default=list(DISK_BUGS))
    parser.add_argument("--harnesses", nargs="+", choices=sorted(HARNESSES), default=list(HARNESSES))
    parser.add_argument("--round", type=int, default=0, metavar="TRIALS", help="no bugs: a few trials of each harness")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=sys.stderr.isatty())
    return parser


def _table(chosen: argparse.Namespace) -> int:
    print(f"{'bug':24}" + "".join(f"{name:>22}" for name in chosen.harnesses), flush=True)
    missed = 0
    for bug in chosen.bugs:
        cells = []
        for name in chosen.harnesses:
            if chosen.progress:
                print(f"\r{bug} by {name} …\033[K\r", end="", file=sys.stderr, flush=True)
            cells.append(hunt(bug, name, chosen.seed))
        missed += not any(cell.caught for cell in cells)
        print(f"{bug:24}" + "".join(f"{_spelled(cell):>22}" for cell in cells), flush=True)
    print(f"{len(chosen.bugs)} bugs, {missed} caught by none of the {len(chosen.harnesses)} harnesses")
    return 1 if missed else 0


def _spelled(cell: Cell) -> str:
    if cell.caught and not cell.trials:
        return f"at once, {cell.seconds:.1f} s"
    return f"{cell.trials:,} in {cell.seconds:.1f} s" if cell.caught else f"not in {cell.trials:,}"


def _round(seed: int, trials: int) -> int:
    from tests.simulation.harnesses.round import play_round

    failed = play_round(seed, trials)
    print(failed or f"seed {seed}: {trials} trials of each disk harness, all held")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

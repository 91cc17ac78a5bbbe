"""``python -m tests.simulation.concurrency``: many concurrent processes on one home, with every command.

python -m tests.simulation.concurrency --processes 50 --commands 100     the long run
python -m tests.simulation.concurrency --server --seconds 60 --processes 8   commands over a server, an operator at work
python -m tests.simulation.concurrency --postgres                 on a PostgreSQL server, which is started for it
python -m tests.simulation.concurrency --bug torn-entry                  with a bug planted

The seed decides the commands of each worker; the machine decides their order.
"""

# ruff: noqa: T201 - it is a program that prints

import argparse
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

from tests.simulation.bugs import BUGS, DISK_BUGS, planted
from tests.simulation.command import bar
from tests.support.postgres.harness import harness_server

if TYPE_CHECKING:
    from tests.simulation.concurrency.runner import Tally

FAULTS_TOLD = 5


def main(arguments: list[str] | None = None) -> int:
    """Return 1 if a command failed or an invariant is broken."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.concurrency", description="Let a crowd use one home."
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=50)
    parser.add_argument("--commands", type=int, default=100, help="how often each of them acts")
    parser.add_argument("--seconds", type=float, help="how long they act, instead of how often")
    parser.add_argument(
        "--server",
        action="store_true",
        help="serve the home, so that commands go over the server; an operator runs doctor, ledger verify, backup and"
        " scheduler --once on the home all the time",
    )
    parser.add_argument("--postgres", action="store_true", help="start a PostgreSQL server, and use a database on it")
    parser.add_argument("--bug", choices=sorted(BUGS | DISK_BUGS), help="plant a bug in a copy of the program")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=sys.stderr.isatty())
    chosen = parser.parse_args(arguments)
    with (
        planted(chosen.bug, BUGS | DISK_BUGS) if chosen.bug else nullcontext(),
        harness_server() if chosen.postgres else nullcontext("") as chosen.server_url,
    ):
        return _run(chosen)


def _run(chosen: argparse.Namespace) -> int:
    from tests.simulation.concurrency.runner import Load, run

    total = chosen.processes * chosen.commands
    load = Load(chosen.processes, chosen.commands, chosen.seconds, chosen.server, chosen.server_url)

    def watch(done: int) -> None:
        if chosen.progress:
            shown = f"{done:,}" if chosen.seconds else f"{bar(done, total)} of {total:,}"
            print(f"\r{shown}", end="", file=sys.stderr)

    tally = run(chosen.seed, load, watch)
    if chosen.progress:
        print(file=sys.stderr)
    print(f"seed {chosen.seed}: {_figures(tally)}, {len(tally.faults)} faults")
    if not tally.faults:
        return 0
    print("\n".join(tally.faults[:FAULTS_TOLD]))
    print(f"replay: {replay_line(chosen)}")
    return 1


def replay_line(chosen: argparse.Namespace) -> str:
    """Return the command that repeats the run."""
    line = f"python -m tests.simulation.concurrency --seed {chosen.seed} --processes {chosen.processes}"
    line += f" --seconds {chosen.seconds}" if chosen.seconds else f" --commands {chosen.commands}"
    line += " --server" if chosen.server else ""
    line += " --postgres" if chosen.postgres else ""
    return line + (f" --bug {chosen.bug}" if chosen.bug else "")


def _figures(tally: "Tally") -> str:
    return (
        f"{tally.commands:,} commands of {len(tally.kinds)} kinds in {tally.seconds:,.1f} s,"
        f" {tally.readings.snapshots:,} snapshots of the bank"
    )


if __name__ == "__main__":
    sys.exit(main())

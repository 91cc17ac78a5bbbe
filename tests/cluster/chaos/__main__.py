"""Run a cluster on real brokers and databases, break it in many ways while clients work, and check what is left.

python -m tests.cluster.chaos [--faults N] [--seed S] [--resume DIR] [--bugs [NAME …]]
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.cluster.chaos.bugs import BUGS, ChaosBug
from tests.cluster.chaos.results import Results, say
from tests.cluster.chaos.session import Session
from tests.cluster.chaos.stage import SOUND
from tests.cluster.kafka_programs import what_is_missing, what_is_not_fetched
from tests.cluster.shared_brokers import end_by_signal
from tests.support.postgres.programs import what_is_missing as what_postgres_lacks

SESSION_FAULTS = 30
BUG_FAULTS = 20


def main() -> int:
    """Run the command of the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=SESSION_FAULTS, help="how many faults in all (default: 30)")
    parser.add_argument("--seed", type=int, default=1, help="the seed of the first session (default: 1)")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="keep results in DIR, and go on with those there")
    parser.add_argument(
        "--bugs", nargs="*", metavar="NAME", help="plant bugs, and show in how many faults each is found"
    )
    arguments = parser.parse_args()
    if problem := what_is_missing() or what_is_not_fetched() or what_postgres_lacks():
        sys.exit(f"{problem}.")
    end_by_signal()
    folder = arguments.resume or Path(tempfile.mkdtemp(prefix="popug-chaos-results-"))
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.bugs is not None:
        return _find_bugs(arguments.bugs or [*BUGS], arguments.seed, folder)
    return _run(arguments.faults, arguments.seed, folder)


def _run(faults: int, seed: int, folder: Path) -> int:
    """Run sessions until there were so many faults; what an earlier run has completed counts."""
    results = Results(folder)
    say(f"Results are in {folder}.")
    while (done := results.count()) < faults:
        problem = _run_session(seed, min(SESSION_FAULTS, faults - done), results)
        if problem:
            say(f"Seed {seed}: {problem}")
            results.print_table()
            return 1
        seed += 1
        while results.has(seed):
            seed += 1
    results.print_table()
    return 0


def _run_session(seed: int, faults: int, results: Results, bug: ChaosBug = SOUND) -> str:
    return Session(str(seed), results.folder, lambda document: results.add(seed, document), bug).run(faults)


def _find_bugs(names: list[str], seed: int, folder: Path) -> int:
    """Plant one bug after another; return 1 if one is not found."""
    table = []
    for name in names:
        results = Results(folder / name)
        began = time.monotonic()
        problem = _run_session(seed, BUG_FAULTS, results, BUGS[name])
        table.append(
            (name, BUGS[name].what, results.count(only_checked=False), problem.strip().splitlines()[-1:] or ["-"])
        )
        say(f"{name}: {problem or 'NOT FOUND'} ({time.monotonic() - began:.0f} s)")
    for name, what, count, found in table:
        say(f"| {name} | {what} | {count} faults | {found[0][:100]} |")
    return int(any(found == ["-"] for *_, found in table))


if __name__ == "__main__":
    sys.exit(main())

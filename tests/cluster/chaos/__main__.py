"""Run a cluster on real brokers and databases, break it in many ways while clients work, and check what is left.

python -m tests.cluster.chaos [--faults N] [--seed S] [--resume DIR] [--bugs [NAME …]]
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from tests.cluster.chaos.bugs import BUGS, ChaosBug
from tests.cluster.chaos.faults import FAULTS
from tests.cluster.chaos.session import Session
from tests.cluster.chaos.stage import SOUND
from tests.cluster.kafka_programs import what_is_missing, what_is_not_fetched
from tests.cluster.shared_brokers import end_by_signal
from tests.support.postgres.programs import what_is_missing as what_postgres_lacks

SESSION_FAULTS = 30
BUG_FAULTS = 18


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
    _say(f"Results are in {folder}.")
    while (done := results.count()) < faults:
        problem = _run_session(seed, min(SESSION_FAULTS, faults - done), results)
        if problem:
            _say(f"Seed {seed}: {problem}")
            results.print_table()
            return 1
        seed += 1
        while results.has(seed):
            seed += 1
    results.print_table()
    return 0


def _run_session(seed: int, faults: int, results: "Results", bug: ChaosBug = SOUND) -> str:
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
        _say(f"{name}: {problem or 'NOT FOUND'} ({time.monotonic() - began:.0f} s)")
    for name, what, count, found in table:
        _say(f"| {name} | {what} | {count} faults | {found[0][:100]} |")
    return int(any(found == ["-"] for *_, found in table))


class Results:
    """The faults and rounds of all sessions, as JSON lines in a folder. A round that was not checked does not count."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "results.jsonl"
        self._began = time.monotonic()

    def add(self, seed: int, document: dict[str, Any]) -> None:
        """Write a document of a session, and show it."""
        with self._file.open("a") as file:
            file.write(json.dumps({"seed": seed, **document}) + "\n")
        _say(f"{time.monotonic() - self._began:7.1f} s  seed {seed}  " + "  ".join(map(str, document.values())))

    def count(self, *, only_checked: bool = True) -> int:
        """Return how many faults there were."""
        return sum(self._kinds(only_checked=only_checked).values())

    def has(self, seed: int) -> bool:
        """Return whether a session of the seed was begun."""
        return any(document["seed"] == seed for document in self._documents())

    def print_table(self) -> None:
        """Show the faults by kind, and what was checked."""
        kinds = self._kinds()
        width = max(map(len, FAULTS))
        for kind in FAULTS:
            _say(f"{kind:{width}}  {kinds[kind]:5}")
        _say(f"{'together':{width}}  {sum(kinds.values()):5}")
        rounds = [document for document in self._documents() if document["event"] == "round"]
        last = {document["seed"]: document for document in rounds}.values()
        totals: Counter[str] = Counter()
        for document in last:
            totals.update(document["operations"])
            totals.update({name: document[name] for name in ("events", "days closed", "mails")})
        _say(f"{len(rounds)} rounds in {len(last)} sessions: " + ", ".join(f"{n} {name}" for name, n in totals.items()))

    def _kinds(self, *, only_checked: bool = True) -> Counter[str]:
        pending: defaultdict[int, Counter[str]] = defaultdict(Counter)
        found: Counter[str] = Counter()
        for document in self._documents():
            if document["event"] == "fault":
                pending[document["seed"]][document["kind"]] += 1
            elif document["event"] == "round":
                found += pending.pop(document["seed"], Counter())
        return found if only_checked else sum(pending.values(), found)

    def _documents(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._file.read_text().splitlines()] if self._file.exists() else []


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the output of a program


if __name__ == "__main__":
    sys.exit(main())

"""The results of a chaos run, kept in a folder, so that a later run goes on with them."""

import json
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from tests.cluster.chaos.faults import FAULTS


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
        say(f"{time.monotonic() - self._began:7.1f} s  seed {seed}  " + "  ".join(map(str, document.values())))

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
            say(f"{kind:{width}}  {kinds[kind]:5}")
        say(f"{'together':{width}}  {sum(kinds.values()):5}")
        rounds = [document for document in self._documents() if document["event"] == "round"]
        last = {document["seed"]: document for document in rounds}.values()
        totals: Counter[str] = Counter()
        for document in last:
            totals.update(document["operations"])
            totals.update({name: document[name] for name in ("events", "days closed", "mails")})
        say(f"{len(rounds)} rounds in {len(last)} sessions: " + ", ".join(f"{n} {name}" for name, n in totals.items()))

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


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201 - the output of a program

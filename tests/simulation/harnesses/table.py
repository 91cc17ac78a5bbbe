"""The bugs that each harness finds. Each run is a process with a bug planted in its copy of the program.

Add another harness with a row in ``HARNESSES``: a command that takes ``--bug``, ``--seed`` and ``--no-progress``,
prints ``seed N: K trials`` and exits with 1 if it found a bug.
"""

import re
import subprocess
import sys
import time
from typing import NamedTuple


class Cell(NamedTuple):
    """Whether a harness found a bug, after how many trials and seconds."""

    caught: bool
    trials: int
    seconds: float


HARNESSES = {
    "kill": ("-m", "tests.simulation.kill", "--points", "240", "--jobs", "2"),
    "fault": ("-m", "tests.simulation.fault", "--points", "240", "--jobs", "2"),
    "power_cut": ("-m", "tests.simulation.power_cut", "--images", "150", "--jobs", "2"),
    "signals": ("-m", "tests.simulation.signals", "--moments", "120", "--jobs", "2"),
    "simulation": ("-m", "tests.simulation", "--operations", "6000", "--length", "400", "--no-shrink"),
    "machine": ("-m", "tests.simulation.machine", "--operations", "3000", "--no-shrink"),
    "concurrency": ("-m", "tests.simulation.concurrency", "--processes", "8", "--commands", "12"),
}
OF_THE_DAY = {"kill", "fault", "power_cut", "signals"}
FOCUS = {
    "close-twice": "close-day",
    "chunked-shuffle": "shuffle",
    "synchronous-off": "log",
    "mail-marked-first": "mail send",
    "key-unsynced": "init",
    "names-unsynced": "init",
    "refused-and-there": "passwd",
    "half-done-refused": "mail send",
    "key-left-behind": "rotate",
}
TRIALS = re.compile(r"seed \d+: ([\d,]+) ")


def hunt(bug: str, harness: str, seed: int) -> Cell:
    """Let a harness look for a bug; raise if it could not run."""
    began = time.perf_counter()
    line = [sys.executable, *HARNESSES[harness], "--seed", str(seed), "--bug", bug, "--no-progress"]
    if harness in OF_THE_DAY:
        line += ["--only", FOCUS.get(bug, "task")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    seconds, trials = time.perf_counter() - began, TRIALS.search(done.stdout)
    if done.returncode == 1 and trials is None and "undisturbed" in done.stderr:  # the bug is found without a cut
        return Cell(True, 0, seconds)
    if done.returncode not in (0, 1) or trials is None:
        raise RuntimeError(f"{' '.join(line)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return Cell(done.returncode == 1, int(trials[1].replace(",", "")), seconds)

"""The time of ``popug doctor`` and ``popug ledger verify`` in a large company, and their memory.

``python -m tests.benchmarks.doctor [ENTRIES]``, 1,000,000 if left out. Each is a separate process, started twice; the
processor time shows the effect of a busy machine.
"""

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.figures import machine
from tests.benchmarks.homes import home_of

GOAL_SECONDS = 15
GOAL_MIB = 256
ROUNDS = 2
COMMANDS = (("doctor",), ("ledger", "verify"))


class Run(NamedTuple):
    """Elapsed seconds, processor seconds, peak memory in MiB."""

    wall: float
    cpu: float
    peak_mib: float


def timed(home: Path, *command: str) -> Run:
    """Run a command in a home; it must find no fault."""
    since = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "popug_cli", *command, "--home", str(home)], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - since
    assert os.waitstatus_to_exitcode(status) == 0, command
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def main(entries: int) -> None:
    """Print the table."""
    home = home_of(entries=entries)
    with closing(sqlite3.connect(home / "popug.db")) as database:
        (events,) = database.execute("SELECT count(*) FROM bus_log").fetchone()
        (lines,) = database.execute("SELECT count(*) FROM billing_entries").fetchone()
    sys.stdout.write(
        f"{machine()}\n"
        f"{lines:,} entries, {events:,} events; the quickest of {ROUNDS} runs, load {os.getloadavg()[0]:.1f} before\n\n"
        f"{'':<16}{'seconds':>10}{'processor':>12}{'peak MiB':>10}{'us an event':>13}\n"
    )
    for command in COMMANDS:
        run = min(timed(home, *command) for _ in range(ROUNDS))
        sys.stdout.write(
            f"{' '.join(command):<16}{run.wall:>10.1f}{run.cpu:>12.1f}{run.peak_mib:>10.0f}"
            f"{run.wall / events * 1e6:>13.1f}  (goal: {GOAL_SECONDS} s, {GOAL_MIB} MiB)\n"
        )


if __name__ == "__main__":
    main(int(sys.argv[1].replace(",", "")) if sys.argv[1:] else 1_000_000)

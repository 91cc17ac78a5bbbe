"""Processor time and memory of commands in a company whose tasks were imported and shuffled once, and its size.

``python -m tests.benchmarks.scale [TASKS]``, 1,000,000 if left out. Each command is a separate process; the time is
that of the processor, because a busy machine stretches any other. The home is a copy of a kept one.
"""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.figures import machine
from tests.benchmarks.homes import copy_of, home_of, token_of

COMMANDS = (
    "balance",
    "events status",
    "events trace 500",
    "tasks fairness",
    "user deactivate p00003",
    "doctor",
    "ledger verify",
    "backup {folder}/copy.zip",
    "restore {folder}/copy.zip --yes",
)


class Spent(NamedTuple):
    """Processor seconds, and the peak memory in MiB."""

    seconds: float
    peak_mib: float


def spent_by(home: Path, command: str) -> Spent:
    """Run a command in a home, as its boss; it must succeed."""
    environment = os.environ | {"POPUG_HOME": str(home), "POPUG_TOKEN": token_of(home)}
    arguments = [sys.executable, "-m", "popug_cli", *command.format(folder=home.parent).split()]
    process = subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, command
    return Spent(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def size_of(home: Path) -> int:
    """Return the bytes of the pages in use."""
    with closing(sqlite3.connect(home / "popug.db")) as database:
        pages, free, size = (
            database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    return int((pages - free) * size)


def sizes_of(home: Path) -> dict[str, int]:
    """Return the bytes of each table and index, if this SQLite has the table ``dbstat``."""
    with closing(sqlite3.connect(home / "popug.db")) as database, suppress(sqlite3.OperationalError):
        return dict(database.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"))
    return {}


def main(tasks: int) -> None:
    """Print the table."""
    sys.stdout.write(f"{machine()}, load {os.getloadavg()[0]:.1f}\n\n")
    with copy_of(home_of(tasks=tasks)) as home:
        spent_by(home, "balance")  # migrates a home that an older popug made
        imported, imported_sizes = size_of(home), sizes_of(home)
        _show("tasks shuffle --yes", spent_by(home, "tasks shuffle --yes"))
        shuffled, shuffled_sizes = size_of(home), sizes_of(home)
        for command in COMMANDS:
            _show(command, spent_by(home, command))
    sys.stdout.write(
        f"\nKB per imported task {imported / tasks / 1000:.2f} (goal 3.2),"
        f" per shuffled one {(shuffled - imported) / tasks / 1000:.2f} (goal 1.8)\n\n"
        f"{'bytes a task':<40}{'imported':>10}{'shuffled':>10}\n"
    )
    for name, size in sorted(imported_sizes.items(), key=lambda item: -item[1]):
        if size > tasks:
            sys.stdout.write(f"{name:<40}{size / tasks:>10.0f}{(shuffled_sizes[name] - size) / tasks:>10.0f}\n")


def _show(command: str, spent: Spent) -> None:
    sys.stdout.write(f"{command:<34}{spent.seconds:>8.2f} s{spent.peak_mib:>7.0f} MiB\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1].replace(",", "")) if sys.argv[1:] else 1_000_000)

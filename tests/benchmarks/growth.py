"""The cost of everyday commands by the number of tasks in the home, compared with Taskwarrior's ``task add``."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.figures import Figure, Way, process, ratios_in_turn, seconds
from tests.benchmarks.homes import SIZES, copy_of, home_of, token_of
from tests.benchmarks.startup import POPUG, QUICK_ROUNDS, ROUNDS

LARGEST = {False: 1_000_000, True: 100_000}
TASKWARRIOR_SIZES = (10, 1_000, 10_000, 100_000)
GOAL = 1.1


def figures(*, quick: bool) -> Iterator[Figure]:
    """Compare ``task add`` in the largest home with one of ten tasks."""
    rounds, largest = QUICK_ROUNDS if quick else ROUNDS, LARGEST[quick]
    with copy_of(home_of(tasks=10)) as small, copy_of(home_of(tasks=largest)) as large:
        ratios = ratios_in_turn(commands(large)["task add"], commands(small)["task add"], rounds)
    yield Figure(f"task add at {largest:,} tasks / at 10", ratios, GOAL)


def commands(home: Path) -> dict[str, Way]:
    """Measure everyday commands as whole processes, as the admin."""
    who = {"POPUG_TOKEN": token_of(home), "POPUG_HOME": str(home), "POPUG_SERVER": ""}
    lines = ("task add Feed", "balance", "tasks list", "statement", "income", "analytics", "task show 5")
    return {line.removesuffix(" Feed"): process(POPUG, *line.split(), environment=who) for line in lines}


def table(*, quick: bool) -> dict[str, dict[int, float]]:
    """Print and return the milliseconds of each command by size."""
    rounds = 3 if quick else 9
    sizes = [size for size in SIZES if size <= LARGEST[quick]]
    columns = {size: _column(size, rounds) for size in sizes}
    sys.stdout.write(f"\n{'milliseconds, by tasks':<28}{''.join(f'{size:>12,}' for size in sizes)}\n")
    for name in next(iter(columns.values())):
        sys.stdout.write(f"popug {name:<22}{''.join(f'{columns[size][name]:>12.0f}' for size in sizes)}\n")
    ours = {f"popug {name}": {size: columns[size][name] for size in sizes} for name in next(iter(columns.values()))}
    if shutil.which("task") is None:
        sys.stdout.write("Taskwarrior is missing: apt-get install taskwarrior\n")
        return ours
    theirs = {size: _taskwarrior(size, rounds) for size in TASKWARRIOR_SIZES}
    peers = "".join(f"{size:>9,}: {taken:.0f}" for size, taken in theirs.items())
    sys.stdout.write(f"Taskwarrior's task add, by tasks {peers}\n")
    return ours | {"Taskwarrior's task add": theirs}


def _column(size: int, rounds: int) -> dict[str, float]:
    with copy_of(home_of(tasks=size)) as home:
        return {name: _milliseconds(way, rounds) for name, way in commands(home).items()}


def _milliseconds(way: Way, rounds: int) -> float:
    way()
    return statistics.median(seconds(way) for _ in range(rounds)) * 1000


def _taskwarrior(size: int, rounds: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        own = os.environ | {"TASKRC": f"{folder}/rc", "TASKDATA": f"{folder}/data"}
        Path(own["TASKRC"]).write_text("confirmation=off\nverbose=nothing\nrecurrence=off\n")
        Path(own["TASKDATA"]).mkdir()
        lines = "".join(f'{{"description":"Task {n}","status":"pending"}}\n' for n in range(size))
        subprocess.run(["task", "import", "-"], input=lines, text=True, check=True, capture_output=True, env=own)
        return _milliseconds(process("task", "add", "Feed the cage", environment=own), rounds)

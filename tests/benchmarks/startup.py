"""The processor time of whole commands, compared with a Python that only imports typer, and with other programs.

``python -m tests.benchmarks startup [--quick]``: local commands, the same against a resident server, and gh, hledger
and taskwarrior where they are installed. The server and hledger work on the data of the local commands; taskwarrior
has as many tasks.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.benchmarks.figures import Figure, Way, child_cpu_seconds, process, ratios_in_turn
from tests.benchmarks.homes import copy_of, home_of, token_of
from tests.support.running_server import RunningServer

ROUNDS, QUICK_ROUNDS = 31, 7
POPUG = str(Path(sys.executable).with_name("popug"))
TYPER = process(sys.executable, "-c", "import typer")
WORKER, PEOPLE, TASKS = "p00000", 5, 1_000


def figures(*, quick: bool) -> Iterator[Figure]:
    """Compare version, completion, help and the everyday commands, then other programs, with the import of typer."""
    rounds = QUICK_ROUNDS if quick else ROUNDS

    def figure(name: str, way: Way, goal: float | None) -> Figure:
        return Figure(f"{name} / import typer", ratios_in_turn(way, TYPER, rounds, spent=child_cpu_seconds), goal)

    yield figure("popug --version", process(POPUG, "--version"), 0.5)
    yield figure("completion", completion("popug task comp"), 0.5)
    yield figure("popug --help", process(POPUG, "--help"), 1.2)
    kept = home_of(tasks=TASKS, people=PEOPLE)
    token = token_of(kept, WORKER)
    with copy_of(kept) as home:
        for name, way in everyday(home, token).items():
            yield figure(f"popug {name}", way, 2.3)
        for name, way in peers(home).items():
            yield figure(name, way, None)
    with copy_of(kept) as home, RunningServer(home):
        for name, way in everyday(home, token).items():
            yield figure(f"popug {name} over a server", way, 1.25)


def peers(home: Path) -> dict[str, Way]:
    """Return the installed programs to compare with, each with a command on as much data as the home has."""
    ways = {}
    if shutil.which("gh"):
        ways["gh --version"] = process("gh", "--version")
    if shutil.which("hledger"):
        journal = home / "popug.journal"
        export = [POPUG, "ledger", "export", "--format", "hledger", "--out", str(journal)]
        who = {"POPUG_TOKEN": token_of(home), "POPUG_HOME": str(home), "POPUG_SERVER": ""}
        subprocess.run(export, check=True, stdout=subprocess.DEVNULL, env=os.environ | who)
        ways["hledger bal"] = process("hledger", "-f", str(journal), "bal")
    if shutil.which("task"):
        (home / "taskrc").write_text(f"data.location={home}\nconfirmation=off\nnews.version=9\n")
        settings = {"TASKRC": str(home / "taskrc")}
        tasks = json.dumps([{"description": f"Feed cage {number}"} for number in range(TASKS)])
        subprocess.run(
            ["task", "import", "-"], input=tasks, text=True, check=True, capture_output=True, env=os.environ | settings
        )
        ways["task list"] = process("task", "list", environment=settings)
    return ways


def completion(line: str) -> Way:
    """Return the command that bash runs to complete a line with the cursor at its end."""
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_POPUG_COMPLETE": "complete_bash"}
    return process(POPUG, environment=asked)


def everyday(home: Path, token: str, *options: str) -> dict[str, Way]:
    """Measure the commands of a worker's day as whole processes; each completion takes the next open task."""
    numbers = iter(_open_tasks(home))
    who = {"POPUG_TOKEN": token, "POPUG_HOME": str(home), "POPUG_SERVER": ""}

    def complete_the_next() -> None:
        process(POPUG, "task", "complete", str(next(numbers)), *options, environment=who)()

    return {
        "task add": process(POPUG, "task", "add", "Feed the cage", *options, environment=who),
        "task complete": complete_the_next,
        "balance": process(POPUG, "balance", *options, environment=who),
    }


def _open_tasks(home: Path) -> list[int]:
    statement = (
        "SELECT number FROM tasks_tasks JOIN tasks_people ON user_id = assignee_id"
        " WHERE status = 'open' AND username = ? ORDER BY number"
    )
    with closing(sqlite3.connect(home / "popug.db")) as connection:
        return [number for (number,) in connection.execute(statement, (WORKER,))]

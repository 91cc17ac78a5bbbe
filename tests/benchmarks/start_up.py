"""The cost of whole commands, compared with a Python that only imports the stack."""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.benchmarks.figures import Figure, Way, process, ratios_in_turn
from tests.benchmarks.homes import copy_of, home_of, token_of

ROUNDS, QUICK_ROUNDS = 31, 7
POPUG = str(Path(sys.executable).with_name("popug"))
TYPER = process(sys.executable, "-c", "import typer")
WORKER, PEOPLE, TASKS = "p00000", 5, 1_000


def figures(*, quick: bool) -> Iterator[Figure]:
    """Compare version, completion, help and the everyday local commands with the import of typer."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    for name, way, goal in (
        ("popug --version / import typer", process(POPUG, "--version"), 0.5),
        ("completion / import typer", completion("popug task comp"), 0.5),
        ("popug --help / import typer", process(POPUG, "--help"), 1.2),
    ):
        yield Figure(name, ratios_in_turn(way, TYPER, rounds), goal)
    kept = home_of(tasks=TASKS, people=PEOPLE)
    token = token_of(kept, WORKER)
    with copy_of(kept) as home:
        for name, way in everyday(home, token).items():
            yield Figure(f"popug {name} / import typer", ratios_in_turn(way, TYPER, rounds), 2.3)


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

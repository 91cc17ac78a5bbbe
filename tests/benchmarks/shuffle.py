"""What a shuffle costs, all consumers caught up, against the row floor.

``python -m tests.benchmarks.shuffle [TASKS] [ROUNDS] [PEOPLE]``, 100,000 tasks in 3 rounds for 1,000
people if left out.
"""

import gc
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from popug_cli.messages.identity import ImportUsers, NewPerson
from popug_cli.messages.tasks import ImportTasks, NewTask, ShuffleTasks
from tests.benchmarks.floor import Cost, copy_database, costing, row_floor
from tests.integration.support import InProcess

GOAL = 2.5
ADDED = ("bus_log", "bus_links", "bus_inbox", "billing_entries")
CHANGED = (
    ("tasks_tasks", "number"),
    ("billing_accounts", "account_id"),
    ("billing_account_days", "employee_id,business_date"),
    ("analytics_people", "user_id"),
    ("analytics_balance_changes", "business_date,user_id"),
)


def company(folder: Path, tasks: int, people: int) -> InProcess:
    """A company with so many open tasks and people who may hold them."""
    made = InProcess(folder / "home")
    newcomers = [NewPerson(username=f"p{n}", email=f"p{n}@example.com", role="worker") for n in range(people)]
    made.act("boss", ImportUsers(people=[*newcomers]))
    for start in range(0, tasks, 50_000):
        lines = [NewTask(title=f"Task {n}") for n in range(start, min(start + 50_000, tasks))]
        made.act("boss", ImportTasks(lines=[*lines]))
        made.place.catch_up()
    return made


def one_round(made: InProcess, folder: Path) -> tuple[Cost, Cost]:
    """The cost of one more shuffle, and of its rows."""
    before, after = folder / "before.db", folder / "after.db"
    made.place.close()
    copy_database(made.place.home.database, before)
    made.place.catch_up()
    with costing() as spent:
        made.act("boss", ShuffleTasks())
        made.place.catch_up()
        ours = spent()
    made.place.close()
    copy_database(made.place.home.database, after)
    return ours, row_floor(before, after, added=ADDED, changed=CHANGED)


def main(tasks: int, rounds: int, people: int) -> None:
    """Print the table."""
    os.environ["POPUG_BUS_CATCH_UP_SECONDS"] = "3600"
    gc.disable()  # as the command itself does
    with tempfile.TemporaryDirectory() as folder:
        made = company(Path(folder), tasks, people)
        costs = [one_round(made, Path(folder)) for _ in range(rounds)]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    sys.stdout.write(
        f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, commit {commit.strip()}\n"
        f"{tasks} tasks, {people} people, {rounds} rounds\n"
    )
    for place, what in enumerate(("wall", "processor")):
        ours = [pair[0][place] / tasks * 1e6 for pair in costs]
        floor = [pair[1][place] / tasks * 1e6 for pair in costs]
        ratio = statistics.median(a / b for a, b in zip(ours, floor, strict=True))
        sys.stdout.write(
            f"{what:<10} {statistics.median(ours):7.1f} us a task, row floor {statistics.median(floor):7.1f} us,"
            f" ratio {ratio:.2f} (goal: at most {GOAL})\n"
        )
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(f"memory     {peak_mib:7.0f} MiB at most\n")


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(*(given + [100_000, 3, 1_000][len(given) :]))

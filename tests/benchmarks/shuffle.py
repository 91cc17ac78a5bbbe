"""The cost of a shuffle, with all consumers caught up, against the row floor.

``python -m tests.benchmarks.shuffle [--quick]``
"""

import gc
import os
import resource
import statistics
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from popug_cli.messages.identity import ImportUsers, NewPerson
from popug_cli.messages.tasks import ImportTasks, NewTask, ShuffleTasks
from tests.benchmarks.figures import Figure, show
from tests.benchmarks.floor import Cost, copy_database, costing, row_floor
from tests.support.company import InProcess

ADDED = ("bus_log", "bus_links", "billing_entries")
CHANGED = (
    ("tasks_tasks", "number"),
    ("billing_accounts", "account_id"),
    ("billing_account_days", "employee_id,business_date"),
    ("analytics_people", "user_id"),
    ("analytics_balance_changes", "business_date,user_id"),
)


def company(folder: Path, tasks: int, people: int) -> InProcess:
    """Return a company with that many open tasks and assignable people."""
    made = InProcess(folder / "home")
    newcomers = [NewPerson(username=f"p{n}", email=f"p{n}@example.com", role="worker") for n in range(people)]
    made.act("boss", ImportUsers(people=[*newcomers]))
    for start in range(0, tasks, 50_000):
        lines = [NewTask(title=f"Task {n}") for n in range(start, min(start + 50_000, tasks))]
        made.act("boss", ImportTasks(lines=[*lines]))
        made.backend.catch_up()
    return made


def one_round(made: InProcess, folder: Path) -> tuple[Cost, Cost]:
    """Measure one more shuffle, and its rows."""
    before, after = folder / "before.db", folder / "after.db"
    made.backend.close()
    copy_database(made.backend.home.database, before)
    made.backend.catch_up()
    with costing() as spent:
        made.act("boss", ShuffleTasks())
        made.backend.catch_up()
        ours = spent()
    made.backend.close()
    copy_database(made.backend.home.database, after)
    return ours, row_floor(before, after, added=ADDED, changed=CHANGED)


def costs(tasks: int, rounds: int, people: int = 1_000) -> list[tuple[Cost, Cost]]:
    """Measure shuffles of that many tasks, and their rows."""
    os.environ["POPUG_BUS_CATCH_UP_SECONDS"] = "3600"
    gc.disable()  # as the command itself does
    with tempfile.TemporaryDirectory() as folder:
        made = company(Path(folder), tasks, people)
        return [one_round(made, Path(folder)) for _ in range(rounds)]


def figures(*, quick: bool) -> Iterator[Figure]:
    """Compare a shuffle with its rows, and a large one with a smaller one per task, by processor time."""
    small, large, rounds = (2_000, 20_000, 2) if quick else (100_000, 1_000_000, 3)
    few = costs(small, rounds)
    note = _a_task(few, small)
    yield Figure(f"shuffle of {small:,} / row floor", [a.cpu_seconds / b.cpu_seconds for a, b in few], 1.8, note=note)
    yield Figure(f"memory of a shuffle of {small:,} / 150 MiB", [peak_mib() / 150], 1.0)
    many = costs(large, 1)
    ratios = [many[0][0].cpu_seconds / large / (ours.cpu_seconds / small) for ours, _ in few]
    note = f"{_a_task(many, large)}; memory {peak_mib():.0f} MiB"
    yield Figure(f"a task of a shuffle of {large:,} / of {small:,}", ratios, 1.2, note=note)


def peak_mib() -> float:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _a_task(taken: Sequence[tuple[Cost, Cost]], tasks: int) -> str:
    cpu, wall = (statistics.median(ours[place] for ours, _ in taken) / tasks * 1e6 for place in (1, 0))
    return f"{cpu:.0f} us of the processor a task, {wall:.0f} us on the wall"


if __name__ == "__main__":
    deque(show(figures(quick="--quick" in sys.argv)), maxlen=0)

"""The same commands on PostgreSQL and on SQLite, in process: a working day, each command, and eight writers.

Both databases sync each commit. The server is started for the benchmark, on the same machine.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from popug_cli.app import LocalBackend
from popug_cli.kernel.home import Home
from popug_cli.messages.analytics import GetAnalytics
from popug_cli.messages.base import Message, Role
from popug_cli.messages.billing import CloseDay, GetBalance, GetStatement
from popug_cli.messages.bus import ShowBusStatus
from popug_cli.messages.identity import AddUser, RegisterFirstAdmin
from popug_cli.messages.principal import Principal
from popug_cli.messages.tasks import AddTask, CompleteTask, ImportTasks, ListTasks, NewTask, ShuffleTasks, StatusFilter
from popug_cli.messages.today import ShowToday
from tests.benchmarks.figures import Figure, seconds
from tests.support.company import PASSWORD
from tests.support.postgres.server import PostgresServer

GOAL = 2.0
WORKERS = 30
ADDED, IMPORTED, COMPLETED, SHUFFLES, QUERIES = 60, 1_000, 60, 3, 30
ROUNDS, QUICK_ROUNDS = 5, 1
SYNCED = {"fsync": "on", "full_page_writes": "on"}
Parts = dict[str, float]  # seconds by the name of a part of the day


def figures(*, quick: bool) -> Iterator[Figure]:
    """Compare a working day on both, and print the ratio of each command."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    ratios: dict[str, list[float]] = {}
    with PostgresServer.create(SYNCED) as server:
        for number in range(rounds):
            order = ("postgres", "sqlite") if number % 2 else ("sqlite", "postgres")
            taken = {place: _day(server if place == "postgres" else None) for place in order}
            for part, elapsed in taken["postgres"].items():
                ratios.setdefault(part, []).append(elapsed / taken["sqlite"][part])
    whole = ratios.pop("day")
    yield Figure("working day: PostgreSQL / SQLite", whole, GOAL, note=f"{WORKERS} workers, in process, synced commits")
    for part, values in ratios.items():
        sys.stdout.write(f"    {part:<50}{'':>8}{median(values):>8.2f}{min(values):>8.2f}{max(values):>8.2f}\n")


def _day(server: PostgresServer | None) -> Parts:
    """Run a working day in a new company; return the seconds of each part, and of the whole ``day``."""
    parts: Parts = {}
    with _company(server) as (backend, boss, workers):
        for name, work in _work_of(backend, boss, workers):
            parts[name] = seconds(work)
    return parts | {"day": sum(parts.values())}


def _work_of(
    backend: LocalBackend, boss: Principal, workers: dict[str, Principal]
) -> Iterator[tuple[str, Callable[[], object]]]:
    def times(count: int, message: Message[Any]) -> Callable[[], object]:
        return lambda: [backend.perform_as(boss, message) for _ in range(count)]

    lines = [NewTask(title=f"Task {number}") for number in range(IMPORTED)]
    yield f"task add, {ADDED} times", times(ADDED, AddTask(title="Feed the cage"))
    yield f"tasks import of {IMPORTED:,}", times(1, ImportTasks(lines=lines))
    yield f"tasks shuffle of {IMPORTED + ADDED:,}, {SHUFFLES} times", times(SHUFFLES, ShuffleTasks())
    tasks = backend.perform_as(boss, ListTasks(status=StatusFilter.OPEN, limit=COMPLETED)).tasks
    yield (
        f"task complete, {COMPLETED} times",
        lambda: [backend.perform_as(workers[task.assignee], CompleteTask(number=task.number)) for task in tasks],
    )
    for name, query in (
        ("balance", GetBalance(username="worker1")),
        ("balance --statement", GetStatement(username="worker1")),
        ("tasks list", ListTasks()),
        ("today", ShowToday()),
        ("analytics", GetAnalytics()),
        ("events status", ShowBusStatus()),
    ):
        yield f"{name}, {QUERIES} times", times(QUERIES, query)
    yield "close-day", times(1, CloseDay(send_mail=False))


@contextmanager
def _company(server: PostgresServer | None) -> Iterator[tuple[LocalBackend, Principal, dict[str, Principal]]]:
    """Yield a new company with an admin and workers, in a database of the server or in the file of its home."""
    with TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        name = server.create_database() if server else ""
        if server:
            home.make()
            home.config.write_text(f'[database]\nurl = "{server.url(name)}"\n', encoding="utf-8")
        with closing(LocalBackend(home)) as backend:
            admin = RegisterFirstAdmin(username="boss", email="boss@example.com", password=PASSWORD)
            backend.create_company("UTC")
            boss = Principal("boss", backend.perform(admin).user_id, Role.ADMIN, "", None)
            people = [
                backend.perform_as(
                    boss, AddUser(username=f"worker{n}", email=f"worker{n}@example.com", role=Role.WORKER)
                )
                for n in range(WORKERS)
            ]
            workers = {user.username: Principal(user.username, user.user_id, user.role, "", None) for user in people}
            yield backend, boss, workers
        if server:
            server.drop_database(name)

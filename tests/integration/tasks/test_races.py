"""Concurrent completions and shuffles: each task has exactly one winner, and nothing is lost."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier

from popug_cli.app import LocalBackend
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.home import Home
from popug_cli.messages.principal import Principal
from popug_cli.messages.tasks import (
    CompleteTask,
    ImportTasks,
    ListTasks,
    NewTask,
    ShuffleTasks,
    TaskAssigned,
    TaskCompleted,
)
from tests.support.company import InProcess
from tests.support.tasks_company import ALL, company_at, events

WORKERS = ("asya", "gosha", "kesha", "polly")
TASKS = 12
MAX_SHUFFLES = 5
EXPECTED = {"task_reassigned", "task_completed"}


def complete_all(backend: LocalBackend, worker: Principal) -> Counter[str]:
    """Complete own tasks until none is open. Return how often each code occurred, and ``done``."""
    seen = Counter[str]()
    while tasks := backend.perform_as(worker, ListTasks()).tasks:
        for task in tasks:
            if task.assignee == worker.username:
                seen[outcome(backend, worker, task.number)] += 1
    return seen


def outcome(backend: LocalBackend, worker: Principal, number: int) -> str:
    try:
        backend.perform_as(worker, CompleteTask(number=number))
    except PopugError as error:
        return error.code
    return "done"


def shuffle(backend: LocalBackend, boss: Principal) -> Counter[str]:
    """Shuffle while any task is open, a limited number of times."""
    for _ in range(MAX_SHUFFLES):
        if backend.perform_as(boss, ShuffleTasks()).task_count == 0:
            break
    return Counter()


def test_concurrent_completions_and_shuffles_have_one_winner(tmp_path: Path) -> None:
    company = company_at(tmp_path / "home")
    for name in WORKERS:
        if name not in company.people:
            company.hire(name)
    company.act("kesha", ImportTasks(lines=[NewTask(title=f"Task {n}") for n in range(TASKS)]))
    seen = run_at_once(company)
    assert set(seen) - {"done"} <= EXPECTED
    assert seen["done"] == TASKS
    check(company)


def run_at_once(company: InProcess) -> Counter[str]:
    people = [company.people[name] for name in WORKERS for _ in range(2)]
    jobs: list[Callable[[LocalBackend], Counter[str]]] = [
        *(partial(complete_all, worker=worker) for worker in people),
        partial(shuffle, boss=company.people["boss"]),
    ]
    start = Barrier(len(jobs))

    def run(job: Callable[[LocalBackend], Counter[str]]) -> Counter[str]:
        backend = LocalBackend(Home(company.root))
        backend.catch_up()
        start.wait()
        return job(backend)

    with ThreadPoolExecutor(len(jobs)) as pool:
        return sum(pool.map(run, jobs), Counter[str]())


def check(company: InProcess) -> None:
    """Check that each task was completed once, by its last assignee, and that every step was paid."""
    holder: dict[str, str] = {}
    completed: dict[str, str] = {}
    for event in events(company, TaskAssigned, TaskCompleted):
        task_id = event.data.task_id
        assert task_id not in completed
        if isinstance(event.data, TaskAssigned):
            assert event.data.previous_assignee_id == holder.get(task_id)
            holder[task_id] = event.data.assignee_id
        else:
            completed[task_id] = event.data.assignee_id
    assert completed == holder
    names = {principal.user_id: name for name, principal in company.people.items()}
    tasks = company.act("boss", ALL).tasks
    assert {task.task_id: task.assignee for task in tasks} == {task: names[user] for task, user in holder.items()}
    charged = company.rows("SELECT kind, count(*) AS n FROM billing_entries GROUP BY kind")
    assigned = len(events(company, TaskAssigned))
    assert {row["kind"]: row["n"] for row in charged} == {"fee": assigned, "reward": TASKS}

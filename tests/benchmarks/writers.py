"""Eight concurrent writer processes against one: nothing is lost, and little of the throughput."""

import gc
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from popug_cli.app import LocalBackend
from popug_cli.kernel.home import Home
from popug_cli.messages.tasks import AddTask, ListTasks, StatusFilter
from tests.benchmarks.figures import Figure
from tests.benchmarks.homes import copy_of, home_of, principal_of, token_of
from tests.benchmarks.startup import POPUG

PROCESSES = 8
COMMANDS, QUICK_COMMANDS = 200, 25
QUICK_WHOLE_COMMANDS = 5
ROUNDS, WHOLE_ROUNDS, QUICK_ROUNDS = 5, 3, 1
GOAL = 0.8


def figures(*, quick: bool) -> Iterator[Figure]:
    """Compare the commands per second of eight writers and of one, in process and as whole processes."""
    for name, work, few, rounds in (
        ("in process", in_process, QUICK_COMMANDS, ROUNDS),
        ("whole processes", as_processes, QUICK_WHOLE_COMMANDS, WHOLE_ROUNDS),
    ):
        commands = few if quick else COMMANDS
        ratios = [_ratio(work, commands) for _ in range(QUICK_ROUNDS if quick else rounds)]
        note = f"{PROCESSES} x {commands} commands a round, every task there, none twice"
        yield Figure(f"8 writers / 1 writer, {name}", ratios, GOAL, more_is_better=True, note=note)


def in_process(home: Path, commands: int, ready: Callable[[], None]) -> None:
    """Add tasks with everything imported and the company open, without garbage collection, as the command does."""
    gc.disable()
    backend = LocalBackend(Home(home))
    boss = principal_of(backend, "boss")
    backend.perform_as(boss, AddTask(title="First"))
    ready()
    for number in range(commands):
        backend.perform_as(boss, AddTask(title=f"Task {os.getpid()} {number}"))


def as_processes(home: Path, commands: int, ready: Callable[[], None]) -> None:
    """Add tasks, one process for each."""
    whole = os.environ | {"POPUG_TOKEN": token_of(home), "POPUG_HOME": str(home), "POPUG_SERVER": ""}
    subprocess.run([POPUG, "task", "add", "First"], check=True, stdout=subprocess.DEVNULL, env=whole)
    ready()
    for number in range(commands):
        line = [POPUG, "task", "add", f"Task {os.getpid()} {number}"]
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL, env=whole)


Work = Callable[[Path, int, Callable[[], None]], None]


def _ratio(work: Work, commands: int) -> float:
    return _rate(work, PROCESSES, commands) / _rate(work, 1, commands)


def _rate(work: Work, writers: int, commands: int) -> float:
    """Return the commands per second of that many writers, from the moment when all are ready."""
    with copy_of(home_of(tasks=1_000)) as home:
        before = _count(home)
        barrier = multiprocessing.Barrier(writers + 1)
        crew = [
            multiprocessing.Process(target=work, args=(home, commands, barrier.wait), name=f"writer {number}")
            for number in range(writers)
        ]
        for one in crew:
            one.start()
        barrier.wait()
        since = time.perf_counter()
        for one in crew:
            one.join()
        taken = time.perf_counter() - since
        if failed := [one.name for one in crew if one.exitcode]:
            sys.exit(f"{', '.join(failed)} failed")
        if (added := _count(home) - before) != writers * (commands + 1):
            sys.exit(f"{writers * (commands + 1)} tasks were added, {added} are there")
    return writers * commands / taken


def _count(home: Path) -> int:
    backend = LocalBackend(Home(home))
    total = backend.perform_as(principal_of(backend, "boss"), ListTasks(status=StatusFilter.ALL)).total
    backend.close()
    return total

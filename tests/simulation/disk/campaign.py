"""Many points of many scenarios, in several processes, until there are enough or a rule is broken."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec

from tests.simulation.disk import command_runner
from tests.simulation.disk.scenario import Day, build

MEMORY = Path("/dev/shm")
WORTH_A_REHEARSAL = 12


class Finding(NamedTuple):
    """The result of one trial: its position (the options that replay it), and the broken rule, if any.

    ``seen``: the recovered database and every other file equal, to the byte, those of a trial that was judged before.
    """

    place: str
    violation: str = ""
    seen: bool = False


class Task(NamedTuple):
    """One step of a scenario to try, with a maximum of trials, in its own folder."""

    day: Day
    number: int
    seed: str
    limit: int
    root: Path


Try = Callable[[Task], Iterator[Finding]]


@dataclass
class Tally:
    """Results of the trials so far."""

    trials: int = 0
    seen: int = 0
    days: int = 0
    seconds: float = 0.0
    failed: Finding | None = None

    def add(self, finding: Finding) -> None:
        """Count one more trial."""
        self.trials += 1
        self.seen += finding.seen
        if finding.violation and self.failed is None:
            self.failed = finding


Watch = Callable[[Tally], None]


class Order(NamedTuple):
    """The number of trials, their seed, the number of processes, and the chosen commands."""

    seed: int
    trials: int
    jobs: int = 1
    only: str = ""


def campaign(attempt: Try, order: Order, watch: Watch = lambda tally: None) -> Tally:
    """Run trials; stop at the first broken rule, or at Ctrl-C."""
    seed, trials = order.seed, order.trials
    tally, began = Tally(), time.perf_counter()
    with workshop() as shop, suppress(KeyboardInterrupt):
        while tally.trials < trials and not tally.failed:
            day = build(f"{seed}:{tally.days}", shop / f"day-{tally.days}", lambda done, total: watch(tally))
            numbers = [step.number for step in day.steps if order.only in step.command.name]
            random.Random(day.seed).shuffle(numbers)
            share = max(WORTH_A_REHEARSAL, -(-(trials - tally.trials) // len(numbers)))
            tasks = [Task(day, number, f"{day.seed}/{number}", share, shop) for number in numbers]
            with _trying(attempt, tasks, order.jobs) as findings:
                for finding in findings:
                    tally.add(finding._replace(place=f"--seed {seed} --day {tally.days} {finding.place}"))
                    tally.seconds = time.perf_counter() - began
                    watch(tally)
                    if tally.failed or tally.trials >= trials:
                        break
            tally.days += 1
    tally.seconds = time.perf_counter() - began
    return tally


@contextmanager
def workshop() -> Iterator[Path]:
    """Yield a folder in memory, with a warm program."""
    with TemporaryDirectory(prefix="popug-disk-", dir=MEMORY if MEMORY.is_dir() else None) as name:
        command_runner.warm_up(Path(name))
        yield Path(name)


@contextmanager
def _trying(attempt: Try, tasks: Sequence[Task], jobs: int) -> Iterator[Iterator[Finding]]:
    """Let workers take the steps one by one; yield their findings as they come."""
    todo, give = os.pipe()
    results, tell = os.pipe()
    os.write(give, bytes(range(len(tasks))))
    os.close(give)
    workers = [_worker(attempt, tasks, f"worker-{n}", todo, tell) for n in range(jobs)]
    os.close(todo)
    os.close(tell)
    try:
        with os.fdopen(results, "rb") as lines:
            yield (msgspec.json.decode(line, type=Finding) for line in lines)
    finally:
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)


def _worker(attempt: Try, tasks: Sequence[Task], name: str, todo: int, tell: int) -> int:
    worker = os.fork()
    if worker:
        return worker
    try:
        while number := os.read(todo, 1):
            task = tasks[number[0]]
            for finding in attempt(task._replace(root=task.root / name)):
                os.write(tell, msgspec.json.encode(finding) + b"\n")
    except BaseException as error:
        os.write(tell, msgspec.json.encode(Finding("", f"the harness itself fails: {error!r}")) + b"\n")
    finally:
        os._exit(0)

"""The runner: create a company, start the workers, check the books during the run, then check everything."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

import popug_cli
from tests.simulation import place
from tests.simulation.concurrency import bank, worker
from tests.simulation.concurrency.bank import Readings
from tests.simulation.concurrency.worker import WORD, Worker, WorkerReport, run_line

WORKERS, EXTRAS, TASKS = 6, 4, 8
READERS, OPERATORS = 2, 2
SLOW_MACHINE = "config set bus.catch_up_seconds 600"  # on one, consumers need more than a second, which is not a fault
FOUNDING = "init --admin ada --email ada@popug.example --password-stdin"
READING_EVERY_SECONDS = 0.05
WATCHED_EVERY_SECONDS = 0.5
SERVER_ENDS_WITHIN_SECONDS = 60


@dataclass
class Tally:
    """Results of a run."""

    commands: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    readings: Readings = field(default_factory=Readings)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Load(NamedTuple):
    """The number of workers, and the number of commands of each, or their time.

    If ``with_server``, ``popug serve`` holds the home during the run, and an operator works on it without a pause. The
    company is on a PostgreSQL server if there is a ``server_url``.
    """

    processes: int
    commands: int
    seconds: float | None = None
    with_server: bool = False
    server_url: str = ""


def run(seed: int, load: Load, watch: Callable[[int], None]) -> Tally:
    """Create a company and put the load on it."""
    worker.warm_up()
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="popug-crowd-") as name:
        shop = Path(name)
        place.prepare(shop / "home", load.server_url)
        tokens = _in_a_child(shop, lambda: _create_company(shop / "home"))
        began = time.perf_counter()
        if load.with_server:
            with _server(shop, tally.faults):
                reports, readings = _run_workers(shop, seed, load, tokens, watch)
        else:
            reports, readings = _run_workers(shop, seed, load, tokens, watch)
        tally.seconds = time.perf_counter() - began
        for report in reports:
            tally.faults += report.faults
            for kind, times in report.asked.items():
                tally.kinds[kind] = tally.kinds.get(kind, 0) + times
        for each in readings:
            tally.faults += each.faults
            tally.readings.snapshots += each.snapshots
        tally.commands = sum(tally.kinds.values())
        tally.faults += _in_a_child(shop, lambda: _check_afterwards(shop / "home", reports))
    return tally


def _create_company(home: Path) -> dict[str, str]:
    """Make a company with users and a few tasks. Return the tokens of the workers' users."""
    _succeeded(run_line(home, FOUNDING.split(), typed=f"{WORD}\n"))
    _succeeded(run_line(home, SLOW_MACHINE.split()))
    roles = {"mia": "manager", "carl": "accountant"}
    roles |= {f"w{n}": "worker" for n in range(WORKERS)} | {f"e{n}": "worker" for n in range(EXTRAS)}
    for name, role in roles.items():
        line = f"user add {name} --email {name}@popug.example --role {role} --password-stdin"
        _succeeded(run_line(home, line.split(), typed=f"{WORD}\n"))
    for number in range(TASKS):
        _succeeded(run_line(home, ["task", "add", f"First {number}"]))
    names = [name for name in ("ada", *roles) if not name.startswith("e")]
    return {name: _succeeded(run_line(home, ["token", "issue", name, "--ttl", "3d"]))["token"] for name in names}


def _succeeded(answer: worker.Answer) -> Any:
    """Return the JSON document of an answer; raise if the command failed or printed none."""
    if answer.code:
        raise RuntimeError(answer.stderr)
    try:
        return answer.json
    except ValueError as error:
        raise RuntimeError(f"undisturbed, it answers {answer.stdout!r}") from error


def _run_workers(
    shop: Path, seed: int, load: Load, tokens: dict[str, str], watch: Callable[[int], None]
) -> tuple[list[WorkerReport], list[Readings]]:
    context = get_context("fork")
    done, over = context.Value("q", 0), context.Event()

    def count() -> None:
        with done.get_lock():
            done.value += 1

    give_up_at = None if load.seconds is None else time.monotonic() + load.seconds

    def work(number: int) -> None:
        report = Worker(number, seed, shop / "home", tokens).run(load.commands, give_up_at, count)
        (shop / f"report-{number}").write_bytes(msgspec.json.encode(report))

    def operate(number: int) -> None:
        report = Worker(number, seed, shop / "home", tokens).operate(over.is_set)
        (shop / f"report-{number}").write_bytes(msgspec.json.encode(report))

    def check(number: int) -> None:
        readings = Readings()
        while not over.wait(READING_EVERY_SECONDS):
            bank.read(shop / "home", readings)
        (shop / f"readings-{number}").write_bytes(msgspec.json.encode(readings))

    operators = OPERATORS if load.with_server else 0
    everyone = range(load.processes + operators)
    visitors = [context.Process(target=work, args=(number,)) for number in everyone[: load.processes]]
    attendants = [context.Process(target=operate, args=(number,)) for number in everyone[load.processes :]]
    readers = [context.Process(target=check, args=(number,)) for number in range(READERS)]
    for process in (*readers, *attendants, *visitors):
        process.start()
    _wait(visitors, done, watch)
    over.set()
    _wait([*readers, *attendants], done, watch)
    codes = [process.exitcode for process in (*visitors, *attendants, *readers)]
    if any(codes):
        raise RuntimeError(f"one of the crowd died: {codes}")
    return (
        [msgspec.json.decode((shop / f"report-{n}").read_bytes(), type=WorkerReport) for n in everyone],
        [msgspec.json.decode((shop / f"readings-{n}").read_bytes(), type=Readings) for n in range(READERS)],
    )


@contextmanager
def _server(shop: Path, faults: list[str]) -> Iterator[None]:
    """Serve the home; it is a fault if the server ends early or fails at its end."""
    line = [sys.executable, "-m", "popug_cli", "serve", "--home", str(shop / "home"), "--json"]
    program = {"PYTHONPATH": str(Path(popug_cli.__file__).parents[1])}
    with (shop / "server-errors").open("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(
            line, env={**os.environ, **worker.ENVIRONMENT, **program}, stdout=subprocess.PIPE, stderr=errors
        )
        try:
            assert process.stdout is not None
            while (said := process.stdout.readline()) and json.loads(said)["event"] != "listening":
                pass
            yield
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            code = process.wait(SERVER_ENDS_WITHIN_SECONDS)
        finally:
            process.kill()
            process.wait()
        if code:
            errors.seek(0)
            faults.append(f"the server ended with {code}: {errors.read()}")


def _wait(processes: list[Any], done: "Synchronized[int]", watch: Callable[[int], None]) -> None:
    for process in processes:
        while process.is_alive():
            process.join(WATCHED_EVERY_SECONDS)
            watch(done.value)


def _in_a_child(shop: Path, work: Callable[[], Any]) -> Any:
    """Do work in a child, so that this process, which forks others, never has the database open."""
    file = shop / "outcome"

    def run() -> None:
        file.write_bytes(msgspec.json.encode(work()))

    child = get_context("fork").Process(target=run)
    child.start()
    child.join()
    if child.exitcode:
        raise RuntimeError(f"a child ended with {child.exitcode}")
    return msgspec.json.decode(file.read_bytes())


def _check_afterwards(home: Path, reports: list[WorkerReport]) -> list[str]:
    """Return the faults after all workers have ended: the doctor's findings, and each broken promise."""
    found = run_line(home, ["doctor"])
    faults = [f"doctor ended with {found.code}: {found.stdout}{found.stderr}"] if found.code else []
    with place.snapshot(home) as select:

        def count(statement: str, value: str) -> int:
            return int(select(statement, value)[0][0])

        for report in reports:
            kept = {title: count("SELECT count(*) FROM tasks_tasks WHERE title = ?", title) for title in report.added}
            kept |= {
                f"#{number} by {name}": count(
                    "SELECT count(*) FROM tasks_tasks JOIN identity_users ON user_id = assignee_id WHERE status ="
                    f" 'completed' AND username = '{name}' AND number = ?",
                    number,
                )
                for number, name in report.completed.items()
            }
            reversals = "SELECT count(*) FROM billing_entries WHERE corrects = ?"
            kept |= {entry: count(reversals, entry) for entry in report.corrected}
            people = "SELECT count(*) FROM identity_users WHERE username = ?"
            kept |= {name: count(people, name) for name in report.hired}
            faults += [
                f"{what} was acknowledged, and is there {times} times" for what, times in kept.items() if times != 1
            ]
    os.environ.pop("POPUG_TOKEN", None)
    return faults

"""One signal: a command is signalled at a moment, and the state it leaves is judged."""

import mmap
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from ctypes import c_longlong
from functools import partial
from pathlib import Path
from typing import Any

from popug_cli.cli import main as command_line
from popug_cli.platform.signals import run_with_signal_handling
from tests.simulation.disk.campaign import Finding, Task, Try
from tests.simulation.disk.checks import judge
from tests.simulation.disk.command_runner import Outcome, aftermath, carry_out
from tests.simulation.disk.scenario import Rehearsal, fresh, rehearse

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)
ENDS_WITH = {signal.SIGINT: 130, signal.SIGTERM: -signal.SIGTERM, signal.SIGHUP: -signal.SIGHUP}
NEVER = 0


def trials(task: Task) -> Iterator[Finding]:
    """Signal a step at that many random moments."""
    rehearsal = rehearse(task.day.step(task.number), task.root)
    moments = _count_moments(rehearsal, task.root)
    chance = random.Random(task.seed)
    for _ in range(task.limit):
        yield _signalled(rehearsal, chance.randint(1, moments), chance.choice(SIGNALS), task.root)


def replaying(moment: int, name: str) -> Try:
    """Return a function that repeats one trial of a step."""
    return partial(_again, moment=moment, number=signal.Signals[name])


def _again(task: Task, *, moment: int, number: signal.Signals) -> Iterator[Finding]:
    rehearsal = rehearse(task.day.step(task.number), task.root)
    _count_moments(rehearsal, task.root)
    yield _signalled(rehearsal, moment, number, task.root)


def _count_moments(rehearsal: Rehearsal, root: Path) -> int:
    counted = c_longlong.from_buffer(mmap.mmap(-1, 8))
    fresh(rehearsal.step.before, root)
    carry_out(root, rehearsal.step.order, prepare=_prepared(NEVER, signal.SIGINT, counted))
    assert counted.value > 0
    return counted.value


def _signalled(rehearsal: Rehearsal, moment: int, number: signal.Signals, root: Path) -> Finding:
    step = rehearsal.step
    place = f"--step {step.number} --moment {moment} --signal {number.name}"
    fresh(step.before, root)
    done = carry_out(root, step.order, prepare=_prepared(moment, number, c_longlong()))
    wrong = _odd_end(done, rehearsal, number) or _left_behind(step.before, root)
    wrong = wrong or judge(rehearsal, aftermath(root, step.again), acknowledged=done.acknowledged)
    return Finding(place, f"{step.command.name}, {number.name} at moment {moment}: {wrong}" if wrong else "")


def _prepared(moment: int, number: signal.Signals, counted: c_longlong) -> Callable[[], None]:
    """Make a child handle a signal as a process of the program does, and send it at the moment."""

    def count(frame: object, kind: str, argument: object) -> None:
        if kind == "call":
            counted.value += 1
            if counted.value == moment:
                os.kill(os.getpid(), number)

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ["POPUG_TRACEBACK"] = "1"
        real: Callable[[list[str], Any], int] = command_line.run

        def watched(arguments: list[str], program: Any) -> int:
            sys.setprofile(count)
            try:
                return real(arguments, program)
            finally:
                sys.setprofile(None)

        def run(arguments: list[str], program: Any = None) -> int:
            return run_with_signal_handling(lambda: watched(arguments, program))

        command_line.run = run

    return prepare


def _odd_end(done: Outcome, rehearsal: Rehearsal, number: signal.Signals) -> str:
    if "Traceback" in done.stderr or "Exception ignored" in done.stderr:
        return f"a traceback: {done.stderr}"
    expected = {rehearsal.done.code, ENDS_WITH.get(number, rehearsal.done.code)}
    return "" if done.code in expected else f"it ended with {done.code}: {done.stderr}"


def _left_behind(before: Path, root: Path) -> str:
    """Return the temporary files that were not there before."""
    found = {path.relative_to(root) for path in root.rglob(".*")} - {
        path.relative_to(before) for path in before.rglob(".*")
    }
    return f"left behind: {', '.join(sorted(map(str, found)))}" if found else ""

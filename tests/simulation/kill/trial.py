"""One kill: a command is killed at a point, and the state it leaves is judged."""

import random
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.simulation.disk.campaign import Finding, Task, Try
from tests.simulation.disk.checks import judge
from tests.simulation.disk.command_runner import Outcome, Trouble, aftermath, carry_out
from tests.simulation.disk.fault_shim import Mode
from tests.simulation.disk.fingerprint import fingerprint
from tests.simulation.disk.scenario import Rehearsal, fresh, rehearse

MODES = (Mode.KILL_BEFORE, Mode.KILL_AMIDST)


def trials(task: Task) -> Iterator[Finding]:
    """Kill a step before and during each of its points; choose some if there are too many."""
    rehearsal = rehearse(task.day.step(task.number), task.root)
    every = [(point, mode) for point in range(1, rehearsal.points + 1) for mode in MODES]
    chosen = every if len(every) <= task.limit else sorted(random.Random(task.seed).sample(every, task.limit))
    seen: dict[tuple[str, bool], str] = {}
    for point, mode in chosen:
        yield _kill(rehearsal, point, mode, task.root, seen)


def replaying(point: int, *, amidst: bool) -> Try:
    """Return a function that repeats one trial of a step."""
    return partial(_again, point=point, mode=MODES[amidst])


def _again(task: Task, *, point: int, mode: Mode) -> Iterator[Finding]:
    rehearsal = rehearse(task.day.step(task.number), task.root)
    yield _kill(rehearsal, point, mode, task.root, {})


def _kill(rehearsal: Rehearsal, point: int, mode: Mode, root: Path, seen: dict[tuple[str, bool], str]) -> Finding:
    step = rehearsal.step
    place = f"--step {step.number} --point {point}" + (" --amidst" if mode is Mode.KILL_AMIDST else "")
    fresh(step.before, root)
    killed = carry_out(root, step.order, Trouble(mode, point))
    if killed.code != -signal.SIGKILL:
        return Finding(place, f"point {point} of {rehearsal.points} was not reached: {killed}")
    left = fingerprint(root), killed.acknowledged
    if left in seen:
        return Finding(place, seen[left], seen=True)
    seen[left] = _verdict(rehearsal, killed, root)
    told = f"{step.command.name}, killed {'amidst' if mode is Mode.KILL_AMIDST else 'before'} point {point}"
    return Finding(place, f"{told}: {seen[left]}" if seen[left] else "")


def _verdict(rehearsal: Rehearsal, killed: Outcome, root: Path) -> str:
    return judge(rehearsal, aftermath(root, rehearsal.step.again), acknowledged=killed.acknowledged)

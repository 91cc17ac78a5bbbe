"""One power cut: record a few commands, cut the disk off at a point, and examine each possible state."""

import copy
import os
import random
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.simulation.disk.campaign import Finding, Task, Try
from tests.simulation.disk.checks import judge_found
from tests.simulation.disk.command_runner import Trouble, carry_out, examine
from tests.simulation.disk.fault_shim import Mode
from tests.simulation.disk.fingerprint import fingerprint
from tests.simulation.disk.scenario import Rehearsal, Step, fresh, rehearse
from tests.simulation.power_cut import journal
from tests.simulation.power_cut.disk import Disk
from tests.simulation.power_cut.journal import Record

COMMANDS = 3


class Recording(NamedTuple):
    """Consecutive commands: the disk before them, their undisturbed effects, and their journal."""

    disk: Disk
    rehearsals: list[Rehearsal]
    records: list[Record]


def trials(task: Task) -> Iterator[Finding]:
    """Cut the power at points of a step and of the next ones."""
    recording = _record(task)
    seen: dict[tuple[str, int], str] = {}
    for image in range(task.limit):
        yield _cut(task, recording, image, seen)


def replaying(image: int) -> Try:
    """Return a function that repeats one trial of a step."""
    return partial(_again, image=image)


def _again(task: Task, *, image: int) -> Iterator[Finding]:
    yield _cut(task, _record(task), image, {})


def _record(task: Task) -> Recording:
    steps = _in_a_row(task)
    rehearsals = [rehearse(step, task.root) for step in steps]
    root = fresh(steps[0].before, task.root)
    disk, descriptor = Disk(root), os.memfd_create("journal")
    for step in steps:
        done = carry_out(root, step.order, Trouble(Mode.COUNT, journal=descriptor))
        if done.code:
            raise RuntimeError(f"{step.command.name} fails while it is recorded: {done}")
        journal.mark_done(descriptor)
    records = journal.read(descriptor)
    os.close(descriptor)
    return Recording(disk, rehearsals, records)


def _in_a_row(task: Task) -> list[Step]:
    """Return the step and those right after it, up to the first that needs a new token."""
    first, *others = [step for step in task.day.steps if task.number <= step.number < task.number + COMMANDS]
    row = [first]
    for step in others:
        if step.order.token or step.number != row[-1].number + 1:
            break
        row.append(step)
    return row


def _cut(task: Task, recording: Recording, image: int, seen: dict[tuple[str, int], str]) -> Finding:
    chance = random.Random(f"{task.seed}/{image}")
    disk, after = copy.deepcopy(recording.disk), chance.randint(0, len(recording.records))
    for record in recording.records[:after]:
        disk.take(record)
    done = sum(record.kind == journal.DONE for record in recording.records[:after])
    shutil.rmtree(task.root, ignore_errors=True)
    task.root.mkdir()
    disk.image(chance, task.root)
    place, left = f"--step {task.number} --image {image}", (fingerprint(task.root), done)
    if left in seen:
        return Finding(place, seen[left], seen=True)
    seen[left] = _verdict(task.root, recording.rehearsals, done)
    names = [rehearsal.step.command.name for rehearsal in recording.rehearsals]
    told = f"of {', '.join(names)}: power cut at {after} of {len(recording.records)}, {done} acknowledged"
    return Finding(place, f"{told}: {seen[left]}" if seen[left] else "")


def _verdict(root: Path, rehearsals: list[Rehearsal], done: int) -> str:
    """Check that every acknowledged command is there, and the one in flight completely or not at all."""
    in_flight = rehearsals[min(done, len(rehearsals) - 1)]
    found = examine(root, in_flight.step.order)
    return judge_found(in_flight, found, acknowledged=done == len(rehearsals))

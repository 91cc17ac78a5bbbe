"""One fault: a command meets a disk error; its answer and the state it leaves are judged."""

import errno
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.simulation.disk.campaign import Finding, Task, Try
from tests.simulation.disk.checks import judge
from tests.simulation.disk.command_runner import Aftermath, Examined, Outcome, Trouble, aftermath, carry_out
from tests.simulation.disk.fault_shim import Mode
from tests.simulation.disk.fingerprint import fingerprint
from tests.simulation.disk.scenario import Rehearsal, fresh, rehearse
from tests.simulation.disk.snapshot import without_lost_login

FAULTS = {
    "error": (Mode.FAIL_ONCE, errno.EIO),
    "full": (Mode.FAIL_FROM, errno.ENOSPC),
    "torn": (Mode.FAIL_TORN, errno.EIO),
}
Seen = dict[tuple[str, int, str], str]
UNAVAILABLE = 8
IN_DOUBT = "in_doubt"
MAIL_UNAVAILABLE = "mail_unavailable"
LOST_LOGIN = "The login could not be stored, so you are not logged in."
FOUNDED = "The company was created nevertheless."


def trials(task: Task) -> Iterator[Finding]:
    """Make each point of a step fail in each way; choose some if there are too many."""
    rehearsal = rehearse(task.day.step(task.number), task.root)
    every = [(point, fault) for point in range(1, rehearsal.points + 1) for fault in FAULTS]
    chosen = every if len(every) <= task.limit else sorted(random.Random(task.seed).sample(every, task.limit))
    seen: Seen = {}
    return (_fail(rehearsal, point, fault, task.root, seen) for point, fault in chosen)


def replaying(point: int, fault: str) -> Try:
    """Return a function that repeats one trial of a step."""
    return partial(_again, point=point, fault=fault)


def _again(task: Task, *, point: int, fault: str) -> Iterator[Finding]:
    yield _fail(rehearse(task.day.step(task.number), task.root), point, fault, task.root, {})


def _fail(rehearsal: Rehearsal, point: int, fault: str, root: Path, seen: Seen) -> Finding:
    step = rehearsal.step
    fresh(step.before, root)
    mode, error = FAULTS[fault]
    told = carry_out(root, step.order, Trouble(mode, point, error))
    left = fingerprint(root), told.code, str(told.error.get("code"))
    was_seen = left in seen
    if not was_seen:
        seen[left] = _left(rehearsal, told, aftermath(root, step.again))
    wrong = _sentence(told, fault) or seen[left]
    said = told.stderr.strip()[-300:]
    about = f"{step.command.name}, {fault} at point {point} ({told.what}), said {told.code} {said!r}"
    place = f"--step {step.number} --point {point} --fault {fault}"
    return Finding(place, f"{about}: {wrong}" if wrong else "", was_seen)


def _left(rehearsal: Rehearsal, told: Outcome, after: Aftermath) -> str:
    """Check that a command reported as done is done, and one reported as unchanged changed nothing.

    There are two exceptions. If a session could not be stored, the login counts as nothing, but a company reported as
    created counts. A mail may be sent more than once.
    """
    if LOST_LOGIN in told.stderr:
        found, ended = (each._replace(state=without_lost_login(each.state)) for each in (after.found, after.ended))
        after = after._replace(found=found, ended=ended)
    if told.error.get("code") == MAIL_UNAVAILABLE:
        after = after._replace(found=_without_mail_since(rehearsal, after.found))
    is_nothing = LOST_LOGIN in told.stderr and FOUNDED not in told.stderr
    untouched = told.code != 0 and (told.error.get("code") != IN_DOUBT or is_nothing)
    if told.code == 0 and rehearsal.step.command.staged:
        return judge(rehearsal, after, acknowledged=False)
    return judge(rehearsal, after, acknowledged=told.code == 0, untouched=untouched)


def _without_mail_since(rehearsal: Rehearsal, found: Examined) -> Examined:
    files = found.state["files"] | {"mails": rehearsal.at_first["files"]["mails"]}
    return found._replace(state=found.state | {"files": files})


def _sentence(told: Outcome, fault: str) -> str:
    """Return the fault in how the command ended."""
    if told.code == 0:
        return "" if told.acknowledged else "it says that it is done and answers nothing"
    if told.code != UNAVAILABLE or told.stdout:
        return f"it ends with {told.code} and answers {told.stdout!r}"
    if fault == "full" and ("The disk is full (" not in told.stderr or " KiB left at " not in told.stderr):
        return "a full disk is not called a full disk, with the space left"
    if fault != "full" and "Reading or writing " not in told.stderr and "output error" not in told.stderr:
        return "a disk error is not called one"
    return ""

"""Companies for the tests of tasks: one is created, each test gets a copy of its home."""

import copy
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from popug_cli.app import LocalBackend
from popug_cli.bus.catch_up import catch_up
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.home import Home
from popug_cli.messages.base import Event
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import AddTask, GetTask, ListTasks, ShuffleTasks, StatusFilter, Task
from tests.support.company import InProcess, SeededChance, SetClock

ALL = ListTasks(status=StatusFilter.ALL)


def company_at(root: Path) -> InProcess:
    """Return a company of a boss and the worker kesha."""
    founded = _founded()
    shutil.copytree(founded.root, root)
    company = copy.copy(founded)
    company.root, company.clock, company.chance = root, SetClock(), SeededChance(2)
    company.warnings, company.people = [], dict(founded.people)
    company.backend = LocalBackend(
        Home(root), warn=company.warnings.append, clock=company.clock, randomness=company.chance
    )
    return company


@cache
def _founded() -> InProcess:
    company = InProcess(Path(mkdtemp()) / "home")
    company.hire("kesha")
    company.backend.runtime.database.close()
    return company


def refused(company: InProcess, username: str, message: Any) -> PopugError:
    """Return the error of a message that was refused without an event."""
    head_before = log_head(company)
    with pytest.raises(PopugError) as caught:
        company.act(username, message)
    assert log_head(company) == head_before
    return caught.value


def log_head(company: InProcess) -> int:
    """Return the position of the last event."""
    (row,) = company.rows("SELECT max(sequence) AS head FROM bus_log")
    head: int = row["head"]
    return head


def publish(company: InProcess, *events: Event) -> None:
    """Append events that no consumer has consumed yet."""
    with company.backend.runtime.writing(OPERATOR) as context:
        for event in events:
            context.events.publish(event)


def catch_up_all(company: InProcess) -> None:
    """Let every consumer catch up; none may fail."""
    report = catch_up(company.backend.runtime, company.backend.consumers)
    assert (report.failures, report.errors, report.complete) == ({}, [], True)


def events(company: InProcess, *kinds: type[Event], after: int = 0) -> Sequence[Any]:
    """Return the events that were published after a position, with their envelopes."""
    with company.backend.runtime.reading(OPERATOR) as context:
        return [*context.log.between(after + 1, context.position, *kinds)]


def reassigned_from(company: InProcess, loser: str) -> Task:
    """Return a task that a shuffle has reassigned from a user."""
    while True:
        task = company.act("kesha", AddTask(title="Feed the cage"))
        if task.assignee == loser:
            company.clock.advance(minutes=5)
            company.act("boss", ShuffleTasks())
            after = company.act("kesha", GetTask(number=task.number))
            if after.assignee != loser:
                return after

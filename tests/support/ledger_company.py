"""A company with a few days of history, and the sqlite3 shell of a user who tampers with it."""

import sqlite3
from contextlib import closing, suppress
from copy import copy
from datetime import UTC, datetime
from pathlib import Path

import pytest

from popug_cli.app import LocalBackend
from popug_cli.kernel.home import Home
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.tasks import AddTask, CompleteTask, GetTask, ShuffleTasks
from tests.support.company import InProcess, SeededChance, SetClock

PAYING_SEED = 3  # with these, both closed days have a payout


def company_with_a_past(root: Path) -> InProcess:
    """Three users, six tasks, a shuffle, some completions, and the first two days closed."""
    company = InProcess(root, chance=SeededChance(PAYING_SEED))
    for name in ("kesha", "gosha", "ara.b-c_d"):
        company.hire(name)
    for day in (2, 3, 4):
        company.clock.instant = datetime(2026, 3, day, 9, tzinfo=UTC)
        for number in range(2):
            company.act("boss", AddTask(title=f'Feed "the" cage; {day}.{number} = ok'))
        company.act("boss", ShuffleTasks())
        company.clock.advance(hours=1)
        complete(company, 2 * day - 3)
        if day < 4:
            company.clock.advance(hours=8)
            company.act("boss", CloseDay(send_mail=False))
    return company


def copy_of(company: InProcess, root: Path) -> InProcess:
    """Return a copy of the company on another file."""
    root.mkdir()
    with (
        closing(sqlite3.connect(company.root / "popug.db")) as source,
        closing(sqlite3.connect(root / "popug.db")) as target,
    ):
        source.backup(target)
    copied = copy(company)
    copied.root, copied.clock = root, SetClock(company.clock.instant)
    copied.backend = LocalBackend(Home(root), clock=copied.clock, randomness=SeededChance(2))
    return copied


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    """The company with a past, which no test changes."""
    return company_with_a_past(tmp_path_factory.mktemp("original"))


@pytest.fixture
def company(original: InProcess, tmp_path: Path) -> InProcess:
    """A copy of the company for each test."""
    return copy_of(original, tmp_path / "home")


def complete(company: InProcess, number: int) -> None:
    assignee = company.act("boss", GetTask(number=number)).assignee
    company.act(assignee, CompleteTask(number=number))


def tamper(company: InProcess, *statements: str) -> None:
    """Run SQL as the shell can: without triggers and foreign keys."""
    company.backend.runtime.database.close()
    with closing(sqlite3.connect(company.root / "popug.db", isolation_level=None)) as database:
        triggers = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            database.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            database.execute(statement)
        for _, trigger in triggers:
            with suppress(sqlite3.OperationalError):  # its table is gone
                database.execute(trigger)

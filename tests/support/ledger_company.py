"""A company with a few days of history, and the sqlite3 shell of a user who tampers with it."""

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from copy import copy
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from popug_cli.app import LocalBackend
from popug_cli.kernel.home import Home
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.tasks import AddTask, CompleteTask, GetTask, ShuffleTasks
from tests.support.company import InProcess, SeededChance, SetClock


def company_that_pays(days: int, root: Path, build: Callable[[Path, SeededChance], InProcess]) -> InProcess:
    """Build companies below ``root``, each with a seed of its own, until one has payouts of so many days."""
    for seed in count(1):
        company = build(root / f"seed-{seed}", SeededChance(seed))
        statement = "SELECT count(DISTINCT business_date) AS days FROM billing_entries WHERE kind = 'payout'"
        if company.rows(statement)[0]["days"] == days:
            return company
    raise AssertionError("unreachable")


def company_with_a_past(root: Path) -> InProcess:
    """Three users, six tasks, a shuffle, some completions, and the first two days closed, each with a payout."""
    return company_that_pays(2, root, _company_with_a_past)


def _company_with_a_past(root: Path, chance: SeededChance) -> InProcess:
    company = InProcess(root, chance=chance)
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

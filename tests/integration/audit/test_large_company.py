"""The doctor gives the same answers in a large company, where a thread runs a part of the checks."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from popug_cli.audit import parallel
from popug_cli.messages.company import CheckHealth
from tests.support.company import InProcess
from tests.support.ledger_company import copy_of, original

__all__ = ["original"]


def untouched(file: Path) -> None:
    """Change nothing."""


def with_other_time(file: Path) -> None:
    _edit(file, "UPDATE bus_log SET envelope = json_set(envelope, '$.time', 'x') WHERE type LIKE '%task_completed%'")


def with_other_assignee(file: Path) -> None:
    _edit(file, "UPDATE tasks_tasks SET assignee_id = (SELECT max(user_id) FROM tasks_people)")


def with_unreadable_envelope(file: Path) -> None:
    """Make an envelope that is not JSON."""
    content = file.read_bytes()
    place = content.rindex(b'"fee_cents":')
    file.write_bytes(content[:place] + b"!" + content[place + 1 :])


def _edit(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        assert database.execute(statement).rowcount


@pytest.mark.parametrize(
    "damage",
    [untouched, with_other_time, with_other_assignee, with_unreadable_envelope],
    ids=lambda each: each.__name__,
)
def test_large_company_has_the_same_health(
    original: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    company = copy_of(original, tmp_path / "home")
    company.backend.close()
    with closing(sqlite3.connect(company.root / "popug.db")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage(company.root / "popug.db")
    small = company.backend.perform(CheckHealth())
    monkeypatch.setattr(parallel, "MIN_LARGE_COMPANY_EVENTS", 0)
    large = company.backend.perform(CheckHealth())
    assert large.checks == small.checks
    assert large.ok == (damage is untouched)

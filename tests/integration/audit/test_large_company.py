"""The doctor gives the same answers in a large company, where a thread runs a part of the checks."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from popug_cli.app import LocalBackend
from popug_cli.audit import log_pass, parallel
from popug_cli.kernel.home import Home
from popug_cli.messages.company import CheckHealth, VerifyLedger
from popug_cli.storage.port import Values
from popug_cli.storage.sqlite import SqliteConnection
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


def with_other_sum_of_a_day(file: Path) -> None:
    _edit(file, "UPDATE billing_account_days SET fees_cents = fees_cents + 1")


def with_other_debit(file: Path) -> None:
    _edit(file, "UPDATE billing_entries SET debit_account = 'payouts' WHERE kind = 'reward'")


def with_entry_before_the_first(file: Path) -> None:
    _edit(file, "UPDATE billing_entries SET position = -5 WHERE position = 1")


def with_entry_at_the_last_position(file: Path) -> None:
    _edit(file, f"UPDATE billing_entries SET position = {2**63 - 1} WHERE position = 1")


def without_counts_of_draws(file: Path) -> None:
    _edit(file, "DELETE FROM tasks_draw_counts")
    _edit(file, "ALTER TABLE tasks_draw_counts RENAME TO gone")


def with_other_price(file: Path) -> None:
    _edit(file, "UPDATE billing_tasks SET fee_cents = 3000 - fee_cents WHERE fee_cents <> 1500")


def with_other_income(file: Path) -> None:
    _edit(file, "UPDATE analytics_days SET fees_cents = fees_cents + 1")


def _edit(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute("PRAGMA ignore_check_constraints=ON")
        assert database.execute(statement).rowcount != 0


@pytest.mark.parametrize(
    "damage",
    [
        untouched,
        with_other_time,
        with_other_assignee,
        with_unreadable_envelope,
        with_other_sum_of_a_day,
        with_other_debit,
        with_entry_before_the_first,
        with_entry_at_the_last_position,
        without_counts_of_draws,
        with_other_price,
        with_other_income,
    ],
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


@pytest.mark.parametrize(
    ("damage", "failed"),
    [
        (with_other_sum_of_a_day, {"balances_by_day_equal_entries"}),
        (with_other_debit, {"database", "entries_match_events", "balances_equal_entries"}),
        (without_counts_of_draws, {"draws_reproducible"}),
        (with_other_income, {"income_sources_agree", "read_models_match_replay"}),
    ],
    ids=lambda each: each.__name__ if callable(each) else "",
)
def test_damage_fails_the_checks_of_its_table_only(
    original: InProcess, tmp_path: Path, damage: Callable[[Path], None], failed: set[str]
) -> None:
    """One reading of the log serves many checks, and an error of one ends no other."""
    company = copy_of(original, tmp_path / "home")
    company.backend.close()
    damage(company.root / "popug.db")
    checks = company.backend.perform(CheckHealth()).checks
    assert {check.name for check in checks if not check.ok} - {"keys", "schema"} == failed


def test_progress_never_falls_nor_exceeds_the_whole(
    original: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = copy_of(original, tmp_path / "home")
    monkeypatch.setattr(parallel, "MIN_LARGE_COMPANY_EVENTS", 0)
    monkeypatch.setattr(log_pass, "PROGRESS_EVENTS", 1)
    monkeypatch.setattr(log_pass, "BATCH_ROWS", 5)
    reported: list[float] = []
    backend = LocalBackend(
        Home(company.root), progress=lambda label, done, total: reported.append(done / total), clock=company.clock
    )
    assert backend.perform(CheckHealth()).ok
    backend.close()
    assert len(reported) > 20
    assert reported == sorted(reported)
    assert reported[-1] <= 1


def test_log_is_read_once(original: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    company = copy_of(original, tmp_path / "home")
    statements: list[str] = []
    run = SqliteConnection.run

    def recorded(connection: SqliteConnection, statement: str, values: Values) -> sqlite3.Cursor:
        statements.append(statement)
        return run(connection, statement, values)

    monkeypatch.setattr(SqliteConnection, "run", recorded)
    assert company.backend.perform(VerifyLedger()).ok
    whole = [each for each in statements if "envelope" in each and each.endswith("FROM bus_log ORDER BY sequence")]
    assert len(whole) == 1

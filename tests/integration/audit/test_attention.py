"""``doctor`` tells a fault from work that waits for a person: the one fails, the other needs attention."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from popug_cli.cli.main import run
from popug_cli.kernel.clock import SystemClock
from popug_cli.kernel.money import format_cents
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.bus import DropDeadLetter, ListDeadLetters
from popug_cli.messages.company import Check, CheckHealth, Health
from popug_cli.messages.tasks import AddTask
from tests.support.company import InProcess

OPEN_WORK = {
    "parked_events",
    "overdue_days",
    "failed_mail",
    "unsent_mail",
    "dead_hook_letters",
    "scheduler",
    "unlinked_events",
}


@pytest.fixture
def company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """A boss and kesha, and the company's home as the home of the command line."""
    company = InProcess(tmp_path / "home")
    company.hire("kesha")
    monkeypatch.setenv("POPUG_HOME", str(company.root))
    return company


def execute(company: InProcess, statement: str) -> None:
    with closing(sqlite3.connect(company.backend.home.database)) as database, database:
        database.execute(statement)


def health_of(company: InProcess) -> Health:
    health: Health = company.backend.perform(CheckHealth())
    return health


def finding(company: InProcess) -> Check:
    (check,) = [check for check in health_of(company).checks if check.attention]
    return check


def leave_dead_letter(company: InProcess) -> int:
    """Leave an assignment as a dead letter of billing; return the amount at stake in cents."""

    def refuse(entries: list[object], _: object) -> None:
        if entries:
            raise ValueError("the ledger is closed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("popug_cli.billing.consumers.post", refuse)
        company.act("boss", AddTask(title="Wipe the glass"))
    execute(company, "UPDATE bus_set_aside SET state = 'dead', due_at = NULL")
    company.backend.catch_up()
    (letter,) = company.act("boss", ListDeadLetters()).dead
    return int(letter.amount_cents)


def test_company_without_open_work_needs_no_attention(company: InProcess) -> None:
    health = health_of(company)
    assert (health.ok, health.attention) == (True, False)
    assert {check.name for check in health.checks} >= OPEN_WORK


def test_dead_letter_needs_attention_with_the_money_at_stake(company: InProcess) -> None:
    cents = leave_dead_letter(company)
    check = next(check for check in health_of(company).checks if check.name == "parked_events")
    assert (check.ok, check.attention, health_of(company).ok, health_of(company).attention) == (True, True, True, True)
    assert f"1 dead for billing, {format_cents(cents)} at stake" in check.detail
    assert "popug events dead" in check.detail


def test_dropped_letter_needs_no_attention(company: InProcess) -> None:
    leave_dead_letter(company)
    for letter in company.act("boss", ListDeadLetters()).dead:
        company.act("boss", DropDeadLetter(dead_id=letter.dead_id, reason="it is not an event"))
    check = next(check for check in health_of(company).checks if check.name == "parked_events")
    assert (check.ok, check.attention) == (True, False)


@pytest.mark.parametrize(("days", "text"), [(1, "1 day is open since 2026-03-02"), (3, "3 days are open since")])
def test_overdue_day_needs_attention(company: InProcess, days: int, text: str) -> None:
    company.clock.advance(days=days)
    assert text in finding(company).detail
    company.act("boss", CloseDay(yesterday=True))
    assert not health_of(company).attention


def test_dead_letter_of_a_hook_needs_attention(company: InProcess) -> None:
    execute(company, "INSERT INTO bus_hooks (hook, position, attempts) VALUES ('any.chat', 1, 0)")
    execute(
        company,
        "INSERT INTO bus_hook_letters (hook, sequence, state, attempts, error, since)"
        " VALUES ('any.chat', 1, 'dead', 5, 'exit 1', '2026-03-02T09:00:00Z')",
    )
    assert finding(company).detail == "any.chat has given up 1 event; see `popug hooks list`"


@pytest.mark.parametrize(
    ("options", "status"), [([], 0), (["--strict"], 7), (["--quiet"], 0), (["--strict", "--quiet"], 7)]
)
def test_strict_doctor_exits_7_if_anything_needs_attention(
    company: InProcess, options: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    company.clock.instant = SystemClock().now()
    company.act("boss", CloseDay(confirmed=True))
    assert run(["doctor", *options]) == 0
    before = capsys.readouterr().out
    assert ("checks passed." in before) is ("--quiet" not in options)
    leave_dead_letter(company)
    assert run(["doctor", *options]) == status
    shown = capsys.readouterr().out
    assert "ATTENTION parked_events: " in shown
    assert ("need attention." in shown or "needs attention." in shown) is ("--quiet" not in options)
    assert run(["doctor", "--json", *options]) == status
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["attention"]) == (True, True)
    assert {tuple(check) for check in answer["checks"]} == {("name", "ok", "detail", "attention")}


def test_fault_is_no_attention_and_exits_7(company: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    company.act("boss", AddTask(title="Wipe the glass"))
    execute(company, "UPDATE tasks_tasks SET number = number + 1")
    assert run(["doctor", "--json"]) == 7
    answer = json.loads(capsys.readouterr().out)
    assert not answer["ok"]
    assert all(not check["attention"] for check in answer["checks"] if not check["ok"])

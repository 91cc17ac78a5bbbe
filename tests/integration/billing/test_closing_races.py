"""Concurrent or interrupted closes: each user is paid exactly once."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from popug_cli.billing import closing
from popug_cli.messages.base import Role
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.identity import IssueToken, Scope, UserRegistered
from popug_cli.messages.principal import OPERATOR, SCHEDULER
from popug_cli.messages.scheduler import RunDue
from tests.support.billing_company import assigned, check_books, completed_by, created
from tests.support.company import InProcess, SetClock
from tests.support.scheduler_fixture import closed_dates, create_company, earn, weak_hash

__all__ = ["weak_hash"]

PEOPLE = 1000
CLOSES = 8


def crowd(company: InProcess) -> None:
    """Add a thousand users, each with a completed task."""
    with company.backend.runtime.writing(OPERATOR) as context:
        for n in range(2, PEOPLE + 2):
            who = f"p{n:04}"
            context.events.publish(
                UserRegistered(user_id=who, username=who, email=f"{who}@example.com", role=Role.WORKER)
            )
            context.events.publish(created(f"t{n}", n, who))
            context.events.publish(assigned(f"t{n}", who))
            context.events.publish(completed_by(f"t{n}", who, company.clock.now()))


def test_eight_concurrent_closes_pay_and_mail_once(tmp_path: Path) -> None:
    company = create_company(tmp_path / "home", "UTC", SetClock(datetime.now(UTC) - timedelta(days=1)))
    crowd(company)
    token = company.act("boss", IssueToken(username="boss", ttl_seconds=86400 * 30, scope=Scope.CLOSE_DAY)).token
    command = [sys.executable, "-m", "popug_cli", "--home", str(company.root), "close-day", "--date", "yesterday"]
    environment = os.environ | {"POPUG_TOKEN": token}
    at_once = [
        subprocess.Popen([*command, "--json"], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(CLOSES)
    ]
    reports = [json.loads(process.communicate(timeout=120)[0]) for process in at_once]
    assert [process.returncode for process in at_once] == [0] * CLOSES
    days = [day for report in reports for day in report["days"]]
    assert [day["already_closed"] for day in days].count(False) == 1
    assert len({day["payouts_cents"] for day in days}) == 1
    paid = days[0]["paid_count"]
    assert 900 < paid <= PEOPLE
    payouts = company.rows("SELECT employee_id FROM billing_entries WHERE kind = 'payout'")
    assert len(payouts) == len({row["employee_id"] for row in payouts}) == paid
    mails = company.rows("SELECT status, attempts, count(*) AS mails FROM mail_outbox GROUP BY status, attempts")
    assert mails == [{"status": "sent", "attempts": 1, "mails": paid}]
    assert sum(report["mail"]["sent"] for report in reports) == paid == len(list(company.root.glob("mail/new/*")))
    check_books(company.rows)


@pytest.mark.parametrize("done_before", [0, 1, 2])
def test_close_interrupted_between_days_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done_before: int
) -> None:
    company = create_company(tmp_path / "home")
    for _ in range(3):
        earn(company)
        company.clock.advance(days=1)
    real, calls = closing.close_next, iter(range(9))

    def cut_off(*arguments: object) -> object:
        day = real(*arguments)  # type: ignore[arg-type]
        if next(calls) == done_before:
            raise KeyboardInterrupt
        return day

    with monkeypatch.context() as cut:
        cut.setattr(closing, "close_next", cut_off)
        with pytest.raises(KeyboardInterrupt):
            company.act("boss", CloseDay(yesterday=True))
    assert len(company.rows("SELECT * FROM billing_days")) == done_before
    run = company.backend.perform(RunDue(), actor=SCHEDULER)
    assert closed_dates(run) == ["2026-03-02", "2026-03-03", "2026-03-04"][done_before:]
    assert run.mail.sent == len(company.rows("SELECT * FROM mail_outbox")) == 3
    check_books(company.rows)


def test_scheduler_and_command_close_without_conflict(tmp_path: Path) -> None:
    company = create_company(tmp_path / "home")
    earn(company)
    company.clock.advance(days=1)
    by_hand = company.act("boss", CloseDay(yesterday=True)).days
    run = company.backend.perform(RunDue(), actor=SCHEDULER)
    assert ([str(day.business_date) for day in by_hand], closed_dates(run)) == (["2026-03-02"], [])
    assert len(company.rows("SELECT * FROM billing_entries WHERE kind = 'payout'")) == 1

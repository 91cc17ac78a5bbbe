"""A long close in its own process, ended by a signal."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from popug_cli.messages.billing import CloseDay
from popug_cli.messages.company import CheckHealth
from popug_cli.messages.identity import IssueToken
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import AddTask, CompleteTask
from tests.support.billing_company import check_books
from tests.support.company import InProcess, SetClock
from tests.support.running_server import PATIENCE_SECONDS
from tests.support.scheduler_fixture import create_company, weak_hash

__all__ = ["weak_hash"]

DAYS_MISSED = 30


def behind(company: InProcess) -> None:
    """Add two users, one of whom earned on each of the open days."""
    company.hire("gosha")
    for _ in range(DAYS_MISSED):
        earn(company)
        company.clock.advance(days=1)


def earn(company: InProcess) -> None:
    task = company.act("boss", AddTask(title="Feed the cage"))
    company.act(task.assignee, CompleteTask(number=task.number))


def closed_days(company: InProcess) -> int:
    return len(company.rows("SELECT * FROM billing_days"))


def signal_amidst(company: InProcess, process: "subprocess.Popen[str]", number: int, *, waiting: bool) -> None:
    """Send the signal once some days are closed and others are not, while it waits for the lock or works.

    Writers are served in order, so between two writes of the test the close does at most one step.
    """
    while process.poll() is None:
        with company.backend.runtime.writing(OPERATOR) as context:
            begun = context.connection.scalar("SELECT count(*) FROM billing_days") > 0
            if begun and waiting:
                process.send_signal(number)
                process.wait(10)
        if begun and not waiting:
            process.send_signal(number)
            return


@pytest.mark.parametrize(
    ("command", "number", "code", "waiting"),
    [
        ("close-day --date yesterday", signal.SIGTERM, -signal.SIGTERM, True),
        ("close-day --date yesterday", signal.SIGTERM, -signal.SIGTERM, False),
        ("close-day --date yesterday", signal.SIGINT, 130, True),
        ("scheduler", signal.SIGTERM, 0, True),
    ],
)
def test_signalled_close_stops_between_days_and_is_resumed(
    tmp_path: Path, command: str, number: int, code: int, waiting: bool
) -> None:
    company = create_company(tmp_path / "home", "UTC", SetClock(datetime.now(UTC) - timedelta(days=DAYS_MISSED)))
    behind(company)
    token = company.act("boss", IssueToken(username="boss", ttl_seconds=3600)).token
    line = [sys.executable, "-m", "popug_cli", "--home", str(company.root), *command.split()]
    environment = os.environ | {"POPUG_TOKEN": token}
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        signal_amidst(company, process, number, waiting=waiting)
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert "Traceback" not in errors, errors
    assert process.returncode == code or (not waiting and process.returncode == 0)
    assert 0 < closed_days(company) < DAYS_MISSED or not waiting
    company.backend.close()
    assert [check.name for check in company.backend.perform(CheckHealth()).checks if not check.ok] == []
    company.clock.advance(minutes=2)
    company.act("boss", CloseDay(yesterday=True))
    assert closed_days(company) == DAYS_MISSED
    paid = company.rows("SELECT employee_id, business_date FROM billing_entries WHERE kind = 'payout'")
    mails = company.rows("SELECT status FROM mail_outbox")
    assert len({(each["employee_id"], each["business_date"]) for each in paid}) == len(paid) == len(mails)
    assert {mail["status"] for mail in mails} == {"sent"}
    check_books(company.rows)

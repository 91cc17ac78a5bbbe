"""``popug scheduler`` as a process: it tells what it does and ends in time."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from popug_cli.cli.main import run as run_popug
from popug_cli.messages.principal import SCHEDULER
from tests.integration.billing_support import check_books
from tests.integration.scheduling import due, earn, founded, weak_hash
from tests.integration.support import InProcess, SetClock

__all__ = ["weak_hash"]


@pytest.fixture
def company(tmp_path: Path) -> InProcess:
    return founded(tmp_path / "home")


@contextmanager
def started(home: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "popug_cli", "--home", str(home), "scheduler", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_tells_what_it_does_and_ends_within_two_seconds(company: InProcess, number: signal.Signals) -> None:
    with started(company.root, "--json") as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert [line["event"] for line in lines] == ["next", "run"]
        assert len(lines[1]["days"]) <= 31
        since = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == 0
        assert time.monotonic() - since < 2
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_it_ends_in_time_although_the_database_is_held(company: InProcess) -> None:
    with company.place.runtime.writing(SCHEDULER), started(company.root) as process:
        assert process.stdout is not None
        assert "too many to close" in process.stdout.readline()
        since = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert time.monotonic() - since < 2


def test_it_ends_in_time_although_the_mail_server_hangs_and_the_mail_goes_out_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = founded(tmp_path / "home", "UTC", SetClock(datetime.now(UTC) - timedelta(days=1)))
    earn(company)
    with socket.create_server(("127.0.0.1", 0)) as server, monkeypatch.context() as smtp:
        smtp.setenv("POPUG_MAIL_TRANSPORT", "smtp")
        smtp.setenv("POPUG_MAIL_SMTP_HOST", "127.0.0.1")
        smtp.setenv("POPUG_MAIL_SMTP_PORT", str(server.getsockname()[1]))
        server.settimeout(60)
        with started(company.root) as process:
            connection, _ = server.accept()
            since = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            assert time.monotonic() - since < 2
            connection.close()
    assert len(company.rows("SELECT * FROM billing_days")) == 1
    company.clock.instant = datetime.now(UTC) + timedelta(hours=1)
    assert due(company, 0).mail.sent == 1
    check_books(company.rows)


def test_once_does_what_is_due_and_ends(company: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_popug(["--home", str(company.root), "scheduler", "--once", "--yes", "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["event"] == "run"
    assert line["days"][0]["business_date"] == "2026-03-02"


def test_once_says_that_too_many_days_need_a_yes(company: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    long_ago = founded(company.root.parent / "old", clock=SetClock(datetime(2001, 1, 1, tzinfo=UTC)))
    assert run_popug(["scheduler", "--home", str(long_ago.root), "--once"]) == 2
    told = capsys.readouterr()
    assert "too many to close without --yes" in told.out
    assert "--yes" in told.err
    assert long_ago.rows("SELECT * FROM billing_days") == []


def test_a_bad_hour_and_a_missing_company_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_popug(["--home", str(tmp_path), "scheduler", "--at", "24:00"]) == 2
    assert run_popug(["--home", str(tmp_path), "scheduler"]) == 3
    assert capsys.readouterr().out == ""

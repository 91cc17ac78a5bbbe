"""``popug scheduler`` as a process: it reports its work and ends in time."""

import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from popug_cli.cli.main import run as run_popug
from popug_cli.messages.principal import SCHEDULER
from popug_cli.storage import write_lock
from tests.support.billing_company import check_books
from tests.support.company import InProcess, SetClock
from tests.support.running_server import PATIENCE_SECONDS, eventually
from tests.support.scheduler_fixture import create_company, earn, run_due, weak_hash

__all__ = ["weak_hash"]


@pytest.fixture
def company(tmp_path: Path) -> InProcess:
    return create_company(tmp_path / "home")


@contextmanager
def started(home: Path, *arguments: str, patch: str = "") -> Iterator[subprocess.Popen[str]]:
    """A scheduler process; ``patch`` are lines of Python that run in it first."""
    line = ["--home", str(home), "scheduler", *arguments]
    code = f"{patch}\nimport sys\nfrom popug_cli.cli.main import run\nsys.exit(run({line!r}))"
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


# A run that hangs is left after a grace period. The period is so long here that a run must end by itself.
NO_GRACE = "from popug_cli.daemon import hook_loop, scheduler\nhook_loop.GRACE_SECONDS = scheduler.GRACE_SECONDS = 600"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_scheduler_reports_and_ends_on_a_signal(company: InProcess, number: signal.Signals) -> None:
    with started(company.root, "--json", patch=NO_GRACE) as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert [line["event"] for line in lines] == ["next", "run"]
        assert len(lines[1]["days"]) <= 31
        process.send_signal(number)
        assert process.wait(PATIENCE_SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


@contextmanager
def held(company: InProcess, by: str) -> Iterator[None]:
    """Let a command of popug, or a shell of SQLite, hold the write lock."""
    if by == "popug":
        with company.backend.runtime.writing(SCHEDULER):
            yield
    else:
        with closing(sqlite3.connect(company.root / "popug.db", isolation_level=None)) as shell:
            shell.execute("BEGIN IMMEDIATE")
            yield


@pytest.mark.parametrize("by", ["popug", "shell"])
def test_signal_ends_scheduler_while_the_database_is_locked(company: InProcess, by: str) -> None:
    """A run gives up its wait for the write lock long before the lock's time limit or a grace period ends."""
    patch = f"{NO_GRACE}\nfrom popug_cli.storage import sqlite, write_lock\n"
    patch += "sqlite.BUSY_TIMEOUT_SECONDS = write_lock.LOCK_TIMEOUT_SECONDS = 600"
    with held(company, by), started(company.root, patch=patch) as process:
        assert process.stdout is not None
        assert "too many to close" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_signal_ends_scheduler_while_it_waits_to_start(company: InProcess) -> None:
    """The scheduler catches up before its first line, and waits for the write lock to do so."""
    with company.backend.runtime.writing(SCHEDULER) as context:
        context.connection.execute("UPDATE bus_cursors SET position = position - 1")
    lock = f":{(company.root / write_lock.LOCK_FILE_NAME).stat().st_ino} "
    patch = f"{NO_GRACE}\nfrom popug_cli.storage import write_lock\nwrite_lock.LOCK_TIMEOUT_SECONDS = 600"
    with company.backend.runtime.writing(SCHEDULER), started(company.root, patch=patch) as process:
        eventually(lambda: re.search(f"-> FLOCK.*{lock}", Path("/proc/locks").read_text(encoding="utf-8")))
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, output, errors) == (0, "", "")


def test_signal_ends_scheduler_while_the_mail_server_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    company = create_company(tmp_path / "home", "UTC", SetClock(datetime.now(UTC) - timedelta(days=1)))
    earn(company)
    with socket.create_server(("127.0.0.1", 0)) as server, monkeypatch.context() as smtp:
        smtp.setenv("POPUG_MAIL_TRANSPORT", "smtp")
        smtp.setenv("POPUG_MAIL_SMTP_HOST", "127.0.0.1")
        smtp.setenv("POPUG_MAIL_SMTP_PORT", str(server.getsockname()[1]))
        smtp.setenv("POPUG_MAIL_SMTP_TIMEOUT_SECONDS", "100")
        server.settimeout(60)
        with started(company.root) as process:
            connection, _ = server.accept()
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_SECONDS) == 0
            connection.close()
    assert len(company.rows("SELECT * FROM billing_days")) == 1
    company.clock.instant = datetime.now(UTC) + timedelta(hours=1)
    assert run_due(company, 0).mail.sent == 1
    check_books(company.rows)


def test_once_does_due_work_and_ends(company: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_popug(["--home", str(company.root), "scheduler", "--once", "--yes", "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["event"] == "run"
    assert line["days"][0]["business_date"] == "2026-03-02"


def test_once_with_too_many_days_needs_yes(company: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    long_ago = create_company(company.root.parent / "old", clock=SetClock(datetime(2001, 1, 1, tzinfo=UTC)))
    assert run_popug(["scheduler", "--home", str(long_ago.root), "--once"]) == 2
    output = capsys.readouterr()
    assert "too many to close without --yes" in output.out
    assert "--yes" in output.err
    assert long_ago.rows("SELECT * FROM billing_days") == []


def test_invalid_hour_and_missing_company_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_popug(["--home", str(tmp_path), "scheduler", "--at", "24:00"]) == 2
    assert run_popug(["--home", str(tmp_path), "scheduler"]) == 3
    assert capsys.readouterr().out == ""


def test_scheduler_continues_without_a_reader_of_its_reports(company: InProcess) -> None:
    """The lock lets the run, and so its report, wait until the reader has gone."""
    with started(company.root, patch=NO_GRACE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        with held(company, "popug"):
            assert process.stdout.readline()
            process.stdout.close()
        assert "could not be printed: Broken pipe." in process.stderr.readline()
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
        assert process.stderr.read() == ""

"""An upgrade during running processes: no migration under a server, no write by a program that is too old."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from popug_cli.app import LocalBackend
from popug_cli.app.hosting import idempotency
from popug_cli.bus.context import Context
from popug_cli.cli.main import run
from popug_cli.daemon.scheduler import ScheduledRun
from popug_cli.identity.keys import create_first_key
from popug_cli.kernel import serve_lock
from popug_cli.kernel.errors import IntegrityViolation, PopugError, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.mail.transport import ACCEPTED, DeliveryResult
from popug_cli.messages.billing import CloseDay, ClosedDay
from popug_cli.messages.scheduler import RunDue
from popug_cli.messages.tasks import AddTask, ListTasks, StatusFilter
from popug_cli.server.sockets import exclusive_lock
from popug_cli.storage import migrate
from popug_cli.storage.migrate import NEWEST, migrate_if_older, version_of
from tests.generate.releases import unpack
from tests.support.company import InProcess, SeededChance, logged_errors
from tests.support.mail_company import MailCompany, Use, room, scripted
from tests.support.running_server import RunningServer, create_home
from tests.support.scheduler_fixture import FIVE_PAST, run_due
from tests.support.server_fixture import ServerFixture

__all__ = ["room", "scripted"]

OLD = "0006"
HOLDER = """
import sys
from pathlib import Path
from popug_cli.kernel.home import Home
from popug_cli.server.sockets import exclusive_lock

with exclusive_lock(Home(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def old(tmp_path: Path) -> Home:
    """A home of the first release."""
    home = Home(tmp_path / "old")
    unpack(OLD, home)
    with ExitStack() as on_rollback:
        create_first_key(home, SeededChance(5), on_rollback)
    return home


@pytest.fixture
def company(tmp_path: Path) -> InProcess:
    found = InProcess(tmp_path / "home")
    found.hire("kesha")
    return found


@pytest.fixture
def residence(tmp_path: Path) -> Iterator[ServerFixture]:
    found = create_home(tmp_path / "home")
    found.open()
    yield found
    found.close()


@contextmanager
def held(home: Home) -> Iterator["subprocess.Popen[str]"]:
    """Another process holds the home as a server does."""
    line = [sys.executable, "-c", HOLDER, str(home.root)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def set_version(database: Path, version: str = "9999") -> None:
    """Change the schema version of a database, as a program of that version does."""
    with closing(sqlite3.connect(database, isolation_level=None)) as opened:
        opened.execute("UPDATE alembic_version SET version_num = ?", (version,))


def upgrade_after(place: LocalBackend, kind: type[Any]) -> None:
    """Give the database a newer version as soon as a write with such a result is committed."""

    def note(context: Context, result: Any) -> None:
        if isinstance(result, kind):
            context.on_rollback.callback(set_version, place.home.database)

    place.on_write = note


def files_of(home: Home) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in home.root.rglob("*") if file.is_file()}


def is_newer(error: PopugError) -> bool:
    return (error.code, error.details) == ("newer_database", {"found": "9999", "known": NEWEST})


# --- a migration while a server holds the home ---------------------------------------------------


@pytest.mark.parametrize("line", [["doctor"], ["today"], ["scheduler", "--once"], ["backup"]])
def test_migration_refused_while_a_server_holds_the_home(
    line: list[str], old: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    with held(old) as server:
        before = files_of(old)
        assert run(["--home", str(old.root), *line, "--json"]) == 8
        error = json.loads(capsys.readouterr().err.splitlines()[-1])["error"]
        assert (error["code"], error["details"]) == ("server_unavailable", {"process": server.pid})
        assert f"process {server.pid}" in error["message"]
        assert "Stop" in error["hint"]
        assert "start" in error["hint"]
        after = files_of(old)
        assert {file: after[file] for file in before} == before
        assert [*old.backups.iterdir()] == []
    assert version_of(old.database) == OLD


def test_migration_done_after_the_server_was_killed(old: Home) -> None:
    with held(old) as server:
        server.kill()
        server.wait()
        migrate_if_older(old)
    assert version_of(old.database) == NEWEST


def test_migration_refused_while_popug_serve_runs(residence: ServerFixture) -> None:
    residence.close()
    with RunningServer(residence.home.root) as served:
        set_version(residence.home.database, OLD)
        with pytest.raises(Unavailable) as refusal:
            LocalBackend(residence.home).runtime  # noqa: B018 - it opens the company
        assert refusal.value.details == {"process": served.process.pid}
        assert version_of(residence.home.database) == OLD


def test_server_migrates_the_home_that_it_starts_on(old: Home) -> None:
    with RunningServer(old.root) as served:
        assert served.request("GET", "/readyz").status == 200
        assert version_of(old.database) == NEWEST
        assert served.end() == 0


def test_no_server_starts_during_a_migration(old: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals: list[PopugError] = []
    real = migrate.migrate

    def start_a_server_first(database: Path) -> None:
        with pytest.raises(PopugError) as refusal, exclusive_lock(old):
            pass
        refusals.append(refusal.value)
        real(database)

    monkeypatch.setattr(migrate, "migrate", start_a_server_first)
    migrate_if_older(old)
    assert [error.code for error in refusals] == ["database_busy"]
    with exclusive_lock(old):
        assert version_of(old.database) == NEWEST


def test_two_migrations_at_once_make_one(old: Home) -> None:
    faults: list[BaseException] = []

    def upgrade() -> None:
        try:
            migrate_if_older(old)
        except BaseException as error:
            faults.append(error)
            raise

    threads = [threading.Thread(target=upgrade) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (faults, version_of(old.database)) == ([], NEWEST)
    assert len([*old.backups.iterdir()]) == 1


def test_migration_refused_if_the_lock_is_a_pipe(old: Home) -> None:
    os.mkfifo(old.serve_lock)
    with pytest.raises(Unavailable) as refusal:
        migrate_if_older(old)
    assert (refusal.value.code, version_of(old.database)) == ("read_only", OLD)


def test_lock_without_a_process_names_no_process(old: Home) -> None:
    with exclusive_lock(old):
        old.serve_lock.write_text("")
        with pytest.raises(Unavailable) as refusal, serve_lock.hold_for_migration(old):
            pass
    assert refusal.value.details == {"process": None}
    assert "a popug server serves it" in refusal.value.message


# --- a newer schema under a process that runs ----------------------------------------------------


def test_command_refused_after_an_upgrade(company: InProcess) -> None:
    company.act("boss", AddTask(title="Before"))
    set_version(company.backend.home.database)
    head = company.rows("SELECT max(sequence) AS head FROM bus_log")
    with pytest.raises(IntegrityViolation) as refusal:
        company.act("boss", AddTask(title="After"))
    assert is_newer(refusal.value)
    assert company.rows("SELECT max(sequence) AS head FROM bus_log") == head
    assert [task.title for task in company.act("boss", ListTasks(status=StatusFilter.ALL)).tasks] == ["Before"]


def test_statement_alone_refused_after_an_upgrade(company: InProcess) -> None:
    statement = "INSERT INTO storage_heartbeats (name, seen_at) VALUES (?, ?)"
    with company.backend.runtime.statement_writer() as note:
        set_version(company.backend.home.database)
        with pytest.raises(IntegrityViolation) as refusal:
            note(statement, [("scheduler", "2026-03-02T09:00:00Z")])
        set_version(company.backend.home.database, NEWEST)
        assert company.rows("SELECT * FROM storage_heartbeats") == []
        note(statement, [("scheduler", "2026-03-02T09:00:00Z")])
    assert is_newer(refusal.value)


def test_consumers_stop_after_an_upgrade(company: InProcess) -> None:
    """The command was done before the upgrade, and its answer is returned; the consumers have not caught up."""
    cursors = company.rows("SELECT * FROM bus_cursors ORDER BY consumer")
    upgrade_after(company.backend, object)
    assert company.act("boss", AddTask(title="The last one")).title == "The last one"
    assert any("Some events are not processed yet" in warning for warning in company.warnings)
    report = company.backend.catch_up()
    assert report.errors
    assert all(is_newer(fault) for fault in report.errors)
    assert company.rows("SELECT * FROM bus_cursors ORDER BY consumer") == cursors


def test_command_is_in_doubt_when_upgraded_half_way(company: InProcess) -> None:
    company.clock.advance(days=3)
    upgrade_after(company.backend, ClosedDay)
    with pytest.raises(Unavailable) as refusal:
        company.act("boss", CloseDay(send_mail=False))
    assert (refusal.value.code, "newer popug" in refusal.value.message) == ("in_doubt", True)
    closed = company.rows("SELECT 1 FROM bus_log WHERE type LIKE 'popug.billing.day_closed.%'")
    assert len(closed) == 1


def test_mail_batch_ends_at_an_upgrade(room: MailCompany, scripted: Use) -> None:
    def upgraded() -> DeliveryResult:
        set_version(room.home.database)
        return ACCEPTED

    room.hire("kesha", "gosha", "vera")
    room.pay("kesha", "gosha", "vera")
    transport = scripted(upgraded)
    with pytest.raises(PopugError):
        room.send()
    assert len(transport.handed_over) == 1
    set_version(room.home.database, NEWEST)
    assert sorted(room.statuses().values()) == ["sending", "sending", "sending"]
    assert room.published("mail_sent") == 0


def test_scheduler_reports_an_upgrade(company: InProcess, caplog: pytest.LogCaptureFixture) -> None:
    place = company.backend
    work = ScheduledRun(
        lambda progress: LocalBackend(place.home, clock=company.clock), RunDue(at_minute=FIVE_PAST), Mock()
    )
    work.run(always_report=False)
    set_version(place.home.database)
    company.clock.advance(days=1)
    for _ in range(2):
        work.run(always_report=False)
    (error,) = logged_errors(caplog)
    assert is_newer(error)


def test_scheduled_run_ends_at_an_upgrade(company: InProcess) -> None:
    company.clock.advance(days=1)
    head = company.rows("SELECT max(sequence) AS head FROM bus_log")
    set_version(company.backend.home.database)
    with pytest.raises(IntegrityViolation) as refusal:
        run_due(company)
    assert is_newer(refusal.value)
    assert company.rows("SELECT max(sequence) AS head FROM bus_log") == head


# --- a newer schema under a server ---------------------------------------------------------------


def test_resident_refuses_to_write_after_an_upgrade(residence: ServerFixture) -> None:
    set_version(residence.home.database)
    for _ in range(2):
        with pytest.raises(IntegrityViolation) as refusal:
            residence.perform("kesha", AddTask(title="After"), key="a key")
        assert is_newer(refusal.value)
    assert residence.perform("kesha", ListTasks()).answer.total == 0
    with pytest.raises(IntegrityViolation) as refusal:
        residence.served_company.probe()
    assert is_newer(refusal.value)


def test_reply_that_cannot_be_kept_is_in_doubt(residence: ServerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shuffle of several transactions is done; its answer cannot be stored any more."""
    keep = idempotency._save

    def keep_after_an_upgrade(*arguments: Any) -> None:
        set_version(residence.home.database)
        keep(*arguments)

    monkeypatch.setattr(idempotency, "_save", keep_after_an_upgrade)
    with pytest.raises(Unavailable) as refusal:
        residence.perform("asya", CloseDay(send_mail=False), key="a key")
    assert refusal.value.code == "in_doubt"


def test_popug_serve_refuses_to_write_after_an_upgrade(residence: ServerFixture) -> None:
    with RunningServer(residence.home.root) as served:
        set_version(residence.home.database)
        for _ in range(2):
            answer = served.post("tasks/add_task", {"title": "After"}, residence.tokens["kesha"])
            assert (answer.status, answer.document["code"]) == (500, "newer_database")
        assert served.post("tasks/list_tasks", {}, residence.tokens["kesha"]).status == 200
        ready = served.request("GET", "/readyz")
        assert (ready.status, ready.document["code"]) == (503, "newer_database")
        assert served.end() == 0


def test_server_refused_on_a_home_upgraded_before_start(
    residence: ServerFixture, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The upgrade happens after the server opens the home and before the server holds it."""

    @contextmanager
    def holding_too_late(home: Home) -> Iterator[None]:
        set_version(home.database)
        with exclusive_lock(home):
            yield

    monkeypatch.setattr("popug_cli.server.sockets.exclusive_lock", holding_too_late)
    monkeypatch.setattr("popug_cli.server.run.listen", Mock(side_effect=AssertionError))
    assert run(["serve", "--home", str(residence.home.root), "--json"]) == 7
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "newer_database"

"""The scheduler: it reads due work from the database, and reports each run in one line."""

import signal
import threading
import time
from datetime import UTC, date, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from unittest.mock import Mock

import pytest

from popug_cli.app import LocalBackend
from popug_cli.app.workflows.scheduled_run import last_closable_day
from popug_cli.daemon.scheduler import ScheduledRun, SchedulerStopped, _wait_for_signal
from popug_cli.kernel.calendar import Calendar
from popug_cli.kernel.errors import Unavailable
from popug_cli.kernel.progress import Progress
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.company import Check, CheckHealth
from popug_cli.messages.principal import SCHEDULER
from popug_cli.messages.scheduler import RunDue, Schedule, ScheduledRunResult, ShowSchedule
from popug_cli.storage import heartbeat
from tests.support.billing_company import check_books
from tests.support.company import InProcess, SeededChance, SetClock, logged_errors
from tests.support.running_server import PATIENCE_SECONDS
from tests.support.scheduler_fixture import FIVE_PAST, closed_dates, create_company, earn, run_due, weak_hash

__all__ = ["weak_hash"]


@pytest.fixture
def company(tmp_path: Path) -> InProcess:
    return create_company(tmp_path / "home")


def set_local(company: InProcess, local: str) -> None:
    zone = company.backend.runtime.calendar.local(company.clock.now()).tzinfo
    company.clock.instant = datetime.fromisoformat(local).replace(tzinfo=zone).astimezone(UTC)


# --- due work -----------------------------------------------------------------------------------


def test_yesterday_is_closed_and_mailed_at_its_hour(company: InProcess) -> None:
    earn(company)
    set_local(company, "2026-03-03 00:04")
    assert closed_dates(run_due(company)) == []
    set_local(company, "2026-03-03 00:05")
    run = run_due(company)
    assert (closed_dates(run), run.mail.sent, run.days[0].paid_count) == (["2026-03-02"], 1, 1)
    assert (run.next.closes, run.next.closes_at) == (date(2026, 3, 3), datetime(2026, 3, 3, 23, 5, tzinfo=UTC))
    again = run_due(company)
    assert (closed_dates(again), again.mail.sent) == ([], 0)
    check_books(company.rows)


def test_yesterday_is_closed_at_any_hour(company: InProcess) -> None:
    set_local(company, "2026-03-03 00:01")
    assert closed_dates(run_due(company, 0)) == ["2026-03-02"]


def test_late_hour_leaves_yesterday_open_until_then(company: InProcess) -> None:
    set_local(company, "2026-03-04 13:59")
    assert closed_dates(run_due(company, 14 * 60)) == ["2026-03-02"]
    set_local(company, "2026-03-04 14:00")
    assert closed_dates(run_due(company, 14 * 60)) == ["2026-03-03"]


def test_machine_off_for_three_days_closes_each_as_itself(company: InProcess) -> None:
    for hour in ("2026-03-02 10:00", "2026-03-03 10:00"):
        set_local(company, hour)
        earn(company)
    set_local(company, "2026-03-05 09:00")
    run = run_due(company)
    assert closed_dates(run) == ["2026-03-02", "2026-03-03", "2026-03-04"]
    assert [day.paid_count for day in run.days] == [1, 1, 0]
    assert run.mail.sent == 2


def test_clock_set_back_closes_nothing_until_corrected(company: InProcess) -> None:
    set_local(company, "2026-03-04 09:00")
    assert len(closed_dates(run_due(company))) == 2
    set_local(company, "2026-02-01 09:00")
    run = run_due(company)
    assert (closed_dates(run), run.next.overdue_days) == ([], 0)
    set_local(company, "2026-03-05 09:00")
    assert closed_dates(run_due(company)) == ["2026-03-04"]


def test_jump_of_years_is_reported_and_needs_confirmation(company: InProcess) -> None:
    earn(company)
    set_local(company, "2029-03-02 09:00")
    for _ in range(2):
        run = run_due(company)
        assert (closed_dates(run), run.next.needs_yes, run.next.overdue_days) == ([], True, 1096)
    assert health(company, "overdue_days").detail.startswith("1,096 days are open since 2026-03-02; too many")
    set_local(company, "2026-04-04 09:00")
    run = run_due(company, confirmed=True)
    assert (len(run.days), run.next.needs_yes, run.mail.sent) == (33, False, 1)
    assert "warning" not in health(company, "overdue_days").detail


def test_31_days_need_no_confirmation(company: InProcess) -> None:
    set_local(company, "2026-04-02 09:00")
    assert len(run_due(company).days) == 31


@pytest.mark.parametrize(
    ("zone", "first", "now", "days"),
    [
        ("Europe/Berlin", "2026-03-28T12:00", "2026-03-30 00:05", ["2026-03-28", "2026-03-29"]),
        ("Europe/Berlin", "2026-10-24T12:00", "2026-10-26 00:05", ["2026-10-24", "2026-10-25"]),
        ("Africa/Cairo", "2024-04-25T12:00", "2024-04-26 01:00", ["2024-04-25"]),
        ("Africa/Cairo", "2024-04-25T12:00", "2024-04-27 00:05", ["2024-04-25", "2024-04-26"]),
        ("Pacific/Apia", "2011-12-29T12:00", "2011-12-31 00:05", ["2011-12-29"]),
        ("Pacific/Apia", "2011-12-29T12:00", "2012-01-01 00:05", ["2011-12-29", "2011-12-31"]),
    ],
)
def test_days_of_unusual_length_are_closed_at_their_hour(
    tmp_path: Path, zone: str, first: str, now: str, days: list[str]
) -> None:
    company = create_company(tmp_path / "home", zone, SetClock(datetime.fromisoformat(f"{first}+00:00")))
    set_local(company, now)
    company.clock.advance(minutes=-1)
    assert closed_dates(run_due(company)) == days[:-1]
    company.clock.advance(minutes=1)
    assert closed_dates(run_due(company)) == days[len(days[:-1]) :]


def test_before_its_minute_the_day_before_yesterday_is_the_last() -> None:
    calendar = Calendar("Pacific/Apia")
    now = datetime(2012, 1, 1, 0, 1, tzinfo=UTC).replace(tzinfo=calendar.local(datetime(2012, 1, 1, tzinfo=UTC)).tzinfo)
    assert last_closable_day(calendar, now, 5) == date(2011, 12, 29)
    assert last_closable_day(calendar, now, 0) == date(2011, 12, 31)


def test_manual_close_leaves_nothing_due(company: InProcess) -> None:
    earn(company)
    company.act("boss", CloseDay())
    set_local(company, "2026-03-03 00:05")
    run = run_due(company)
    assert (closed_dates(run), run.next.closes) == ([], date(2026, 3, 3))


def test_next_close_is_read_from_the_database(company: InProcess) -> None:
    asked: Schedule = company.backend.perform(ShowSchedule(at_minute=FIVE_PAST), actor=SCHEDULER)
    assert (asked.closes, asked.closes_at) == (date(2026, 3, 2), datetime(2026, 3, 2, 23, 5, tzinfo=UTC))
    assert (asked.overdue_days, asked.time_zone) == (0, "Europe/Berlin")


def test_backup_a_day_is_taken_if_set(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_due(company).backup is None
    monkeypatch.setenv("POPUG_SCHEDULER_BACKUP", "true")
    company.backend.close()
    first = run_due(company).backup
    assert first is not None
    assert Path(first).is_file()
    assert run_due(company).backup is None
    set_local(company, "2026-03-03 00:05")
    assert run_due(company).backup not in {None, first}


def test_one_of_two_schedulers_takes_the_backup(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPUG_SCHEDULER_BACKUP", "true")
    company.backend.close()
    look, taken = heartbeat.last_recorded, []

    def look_while_another_one_runs(connection: Any, name: str) -> datetime | None:
        found = look(connection, name)
        if name == heartbeat.BACKUP:
            monkeypatch.setattr(heartbeat, "last_recorded", look)
            taken.append(run_due(company).backup)
        return found

    monkeypatch.setattr(heartbeat, "last_recorded", look_while_another_one_runs)
    taken.append(run_due(company).backup)
    assert [backup is None for backup in taken] == [False, True]
    assert len(list((company.root / "backups").iterdir())) == 1


def test_failed_backup_is_a_warning_and_the_day_is_closed(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise Unavailable("disk_full", "The disk is full.")

    monkeypatch.setenv("POPUG_SCHEDULER_BACKUP", "true")
    monkeypatch.setattr("popug_cli.app.workflows.backup.back_up", full)
    company.backend.close()
    company.clock.advance(days=1)
    run = run_due(company)
    assert (closed_dates(run), run.backup) == (["2026-03-02"], None)
    assert any("backup was not taken" in warning for warning in company.warnings)


def test_mail_backs_off_while_the_mail_server_is_down(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPUG_MAIL_TRANSPORT", "smtp")
    monkeypatch.setenv("POPUG_MAIL_SMTP_HOST", "127.0.0.1")
    monkeypatch.setenv("POPUG_MAIL_SMTP_PORT", "9")
    monkeypatch.setenv("POPUG_MAIL_SUMMARY", "true")
    company.backend.close()
    earn(company)
    company.clock.advance(days=1)
    for _ in range(4 * 60):
        run_due(company)
        company.clock.advance(minutes=1)
    attempts = company.rows("SELECT sum(attempts) AS tries FROM mail_outbox")[0]["tries"]
    assert 6 <= attempts <= 14
    monkeypatch.setenv("POPUG_MAIL_TRANSPORT", "maildir")
    company.backend.close()
    company.clock.advance(hours=1)
    assert run_due(company).mail.sent == 2


# --- heartbeat ----------------------------------------------------------------------------------


def health(company: InProcess, name: str) -> Check:
    checks: list[Check] = company.backend.perform(CheckHealth()).checks
    return next(check for check in checks if check.name == name)


def test_doctor_warns_of_a_stopped_scheduler(company: InProcess) -> None:
    assert health(company, "scheduler").detail == "no scheduler has run here"
    run_due(company)
    assert health(company, "scheduler").detail == "the scheduler last ran at 2026-03-02 10:00"
    company.clock.advance(hours=25)
    check = health(company, "scheduler")
    assert (check.ok, check.attention) == (True, True)
    assert check.detail.startswith("the scheduler has not run since")


def test_heartbeat_is_recorded_also_after_clock_set_back(company: InProcess) -> None:
    def seen() -> Any:
        return company.rows("SELECT seen_at FROM storage_heartbeats")[0]["seen_at"]

    run_due(company)
    first = seen()
    company.clock.advance(minutes=5)
    run_due(company)
    assert seen() == first
    company.clock.advance(days=-3)
    run_due(company)
    assert seen() < first


# --- reports ------------------------------------------------------------------------------------


def working(company: InProcess, shown: list[Any]) -> ScheduledRun:
    def open_backend(progress: Progress) -> LocalBackend:
        return LocalBackend(company.backend.home, clock=company.clock, randomness=SeededChance(7), progress=progress)

    return ScheduledRun(open_backend, RunDue(at_minute=FIVE_PAST), shown.append)


def test_idle_run_is_reported_only_at_its_hour(company: InProcess) -> None:
    shown: list[Any] = []
    work = working(company, shown)
    work.run(always_report=False)
    assert shown == []
    work.run(always_report=True)
    assert len(shown) == 1
    company.clock.advance(days=1)
    work.run(always_report=False)
    assert closed_dates(shown[-1]) == ["2026-03-02"]


def test_too_many_days_are_reported_when_found(company: InProcess) -> None:
    shown: list[Any] = []
    work = working(company, shown)
    company.clock.advance(days=100)
    work.run(always_report=False)
    work.run(always_report=False)
    assert [run.next.needs_yes for run in shown] == [True]


def test_environment_error_is_reported_once_and_retried(
    company: InProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def busy(self: ScheduledRun) -> ScheduledRunResult:
        raise Unavailable("database_busy", "Another process holds the database.")

    shown: list[Any] = []
    work = working(company, shown)
    with monkeypatch.context() as held:
        held.setattr(ScheduledRun, "perform_due", busy)
        work.run(always_report=False)
        work.run(always_report=False)
    assert [error.code for error in logged_errors(caplog)] == ["database_busy"]
    work.run(always_report=False)
    assert len(shown) == 1


def test_stop_ends_a_run_between_two_steps(company: InProcess) -> None:
    earn(company)
    company.clock.advance(days=1)
    shown: list[Any] = []
    work = working(company, shown)
    work.stopping.set()
    with pytest.raises(SchedulerStopped):
        work.perform_due()
    work.run(always_report=True)
    assert shown == []
    assert company.rows("SELECT * FROM billing_days") == []
    check_books(company.rows)
    assert closed_dates(run_due(company)) == ["2026-03-02"]


def test_signal_to_another_thread_is_handled_soon() -> None:
    """The system may deliver a signal to another thread, which does not wake the main one."""
    orders: SimpleQueue[int | BaseException] = SimpleQueue()
    is_over, not_woken = threading.Event(), []
    before = signal.signal(signal.SIGTERM, lambda number, _: orders.put(number))

    def be_given() -> None:
        time.sleep(0.3)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        if not is_over.wait(PATIENCE_SECONDS):
            not_woken.append(1)
            orders.put(0)

    threading.Thread(target=be_given, daemon=True).start()
    try:
        _wait_for_signal(Mock(), Mock(), orders)
    finally:
        is_over.set()
        signal.signal(signal.SIGTERM, before)
    assert not not_woken

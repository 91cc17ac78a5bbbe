"""Closing days through the backend: refusals, reports, concurrent closes, and events left out."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from popug_cli.app import LocalBackend
from popug_cli.bus.consumers import Consumer
from popug_cli.kernel.errors import InvalidInput, NotAllowed
from popug_cli.kernel.home import Home
from popug_cli.messages.base import Role
from popug_cli.messages.billing import CloseDay, CloseReport, GetBalance, GetIncome, GetStatement, PayoutMade
from popug_cli.messages.identity import Scope, UserRegistered
from popug_cli.messages.principal import OPERATOR, SCHEDULER, Principal
from popug_cli.messages.tasks import AddTask, CompleteTask
from tests.support.billing_company import assigned, check_books, completed_by, created, migrated
from tests.support.company import InProcess, SeededChance, SetClock

MONDAY = date(2026, 3, 2)


@pytest.fixture
def company(tmp_path: Path) -> InProcess:
    """A company with one worker; mail is delivered to a Maildir."""
    root = tmp_path / "home"
    Home(root).make()
    Home(root).database.write_bytes(migrated())
    company = InProcess(root)
    company.hire("kesha")
    return company


def earn(company: InProcess, count: int = 1) -> int:
    """Create and complete tasks. Return their gain in cents."""
    before = company.act("kesha", GetBalance()).balance_cents
    for _ in range(count):
        task = company.act("kesha", AddTask(title="Feed the cage"))
        company.act("kesha", CompleteTask(number=task.number))
    return company.act("kesha", GetBalance()).balance_cents - before


def close(company: InProcess, **asked: Any) -> CloseReport:
    return company.act("boss", CloseDay(**asked))


def refusal(act: Callable[..., object], *arguments: Any, **asked: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        act(*arguments, **asked)
    return caught.value.code


def mails(company: InProcess) -> list[Path]:
    return [*company.root.glob("mail/new/*")]


def test_today_is_closed_paid_and_mailed(company: InProcess) -> None:
    cents = earn(company)
    report = close(company)
    (day,) = report.days
    assert [(p.username, p.amount_cents) for p in day.payouts] == [("kesha", cents)]
    assert (report.mail.sent, report.mail.queued, report.set_aside) == (1, 0, [])
    assert len(mails(company)) == 1
    check_books(company.rows)


def test_second_close_reports_the_first_and_does_nothing(company: InProcess) -> None:
    earn(company)
    first = close(company)
    for asked in ({}, {"day": MONDAY}):
        again = close(company, **asked)
        (day,) = again.days
        assert (day.already_closed, day.payouts) == (True, first.days[0].payouts)
        assert day.income_cents == first.days[0].income_cents
        assert (again.mail.sent, again.mail.queued) == (0, 0)
    assert len(mails(company)) == 1


def test_yesterday_of_the_first_day_closes_nothing(company: InProcess) -> None:
    assert close(company, yesterday=True).days == []
    company.clock.advance(days=1)
    assert [day.business_date for day in close(company, yesterday=True).days] == [MONDAY]
    assert [day.already_closed for day in close(company, yesterday=True).days] == [True]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (date(2026, 3, 3), "future_date"),
        (date.max, "future_date"),
        (date(2026, 3, 1), "before_first_day"),
        (date.min, "before_first_day"),
    ],
    ids=str,
)
def test_day_that_may_not_be_closed_is_refused(company: InProcess, asked: date, code: str) -> None:
    assert refusal(close, company, day=asked) == code
    assert refusal(close, company, day=asked, dry_run=True) == code
    assert company.rows("SELECT * FROM billing_days") == []


def test_day_that_the_zone_never_had_is_refused(tmp_path: Path) -> None:
    company = InProcess(tmp_path / "home", "Pacific/Apia", SetClock(datetime(2011, 12, 29, 12, tzinfo=UTC)))
    company.clock.advance(days=1)
    assert refusal(close, company, day=date(2011, 12, 30)) == "no_such_day"
    assert [str(day.business_date) for day in close(company).days] == ["2011-12-29", "2011-12-31"]
    company.clock.advance(days=1)
    assert [str(day.business_date) for day in close(company, yesterday=True).days] == ["2011-12-31"]


def test_missed_days_have_their_own_payouts_and_mails(company: InProcess) -> None:
    sums = []
    for _ in range(3):
        sums.append(earn(company))
        company.clock.advance(days=1)
    report = close(company, day=date(2026, 3, 4))
    assert [day.payouts_cents for day in report.days] == sums
    assert (report.mail.sent, len(mails(company))) == (3, 3)
    later_report = close(company)
    assert [str(day.business_date) for day in later_report.days] == ["2026-03-05"]


def test_closing_more_than_a_month_needs_yes(company: InProcess) -> None:
    company.clock.advance(days=31)
    assert refusal(close, company) == "needs_yes"
    assert len(close(company, dry_run=True).days) == 32
    assert len(close(company, yesterday=True).days) == 31
    company.clock.advance(days=40)
    assert len(close(company, confirmed=True).days) == 41


def test_dry_run_changes_nothing(company: InProcess) -> None:
    cents = earn(company)
    company.clock.advance(days=1)
    close(company, yesterday=True)
    earned = earn(company)
    tables = [row["name"] for row in company.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
    before = {table: company.rows(f"SELECT * FROM {table}") for table in tables}
    report = close(company, dry_run=True)
    assert {table: company.rows(f"SELECT * FROM {table}") for table in tables} == before
    (day,) = report.days
    assert (day.closed, day.already_closed, day.payouts_cents) == (False, False, earned)
    assert (report.mail.sent, report.mail.queued, len(mails(company))) == (0, 1, 1)
    real = close(company)
    assert real.days[0].payouts == day.payouts
    (closed,) = close(company, day=MONDAY, dry_run=True).days
    assert (closed.closed, closed.already_closed, closed.payouts_cents) == (True, True, cents)


def test_mail_stays_queued_without_sending(company: InProcess) -> None:
    earn(company)
    report = close(company, send_mail=False)
    assert (report.mail.sent, report.mail.queued, mails(company)) == (0, 1, [])
    assert (close(company).mail.sent, len(mails(company))) == (1, 1)


def test_mail_server_that_is_down_is_a_warning(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPUG_MAIL_TRANSPORT", "smtp")
    monkeypatch.setenv("POPUG_MAIL_SMTP_HOST", "127.0.0.1")
    monkeypatch.setenv("POPUG_MAIL_SMTP_PORT", "9")
    earn(company)
    backend = LocalBackend(
        company.backend.home, warn=company.warnings.append, clock=company.clock, randomness=SeededChance(2)
    )
    report = backend.perform_as(company.people["boss"], CloseDay())
    assert (report.days[0].paid_count, report.mail.sent, report.mail.queued) == (1, 0, 1)
    assert any("mail" in warning.lower() for warning in company.warnings)


def test_entries_after_todays_close_are_dated_tomorrow(company: InProcess) -> None:
    close(company)
    earn(company)
    assert company.act("kesha", GetStatement(to_date=date(2026, 3, 2))).entries == []
    dates = {entry.business_date for entry in company.act("kesha", GetStatement()).entries}
    assert dates == {date(2026, 3, 3)}
    assert refusal(close, company, day=date(2026, 3, 3)) == "future_date"


def test_close_after_clock_set_back_closes_nothing(company: InProcess) -> None:
    company.clock.advance(days=2)
    close(company)
    company.clock.advance(days=-1)
    (day,) = close(company).days
    assert (str(day.business_date), day.already_closed) == ("2026-03-03", True)
    company.clock.advance(days=-9)
    assert close(company).days == []
    assert close(company, yesterday=True).days == []


def test_close_allowed_for_accountant_and_refused_for_others(company: InProcess) -> None:
    company.hire("asya", "accountant")
    company.hire("mira", "manager")
    for name in ("kesha", "mira"):
        with pytest.raises(NotAllowed):
            company.act(name, CloseDay())
    assert len(company.act("asya", CloseDay()).days) == 1
    assert company.backend.perform_as(SCHEDULER, CloseDay()).days[0].already_closed
    asya = company.people["asya"]
    scoped = Principal(asya.username, asya.user_id, asya.role, scope=Scope.CLOSE_DAY)
    assert company.backend.perform_as(scoped, CloseDay()).days[0].already_closed


def test_two_closes_at_once_pay_once(company: InProcess) -> None:
    cents = earn(company, 3)
    company.clock.advance(days=1)

    def work(seed: int) -> CloseReport:
        backend = LocalBackend(company.backend.home, clock=company.clock, randomness=SeededChance(seed))
        return backend.perform_as(company.people["boss"], CloseDay())

    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(work, range(10, 14)))
    done = [day for report in reports for day in report.days if not day.already_closed]
    assert sorted(str(day.business_date) for day in done) == ["2026-03-02", "2026-03-03"]
    payouts = company.rows("SELECT amount_cents FROM billing_entries WHERE kind = 'payout'")
    assert payouts == [{"amount_cents": cents}]
    assert len(mails(company)) == 1
    assert all(report.days[-1].business_date == date(2026, 3, 3) for report in reports)
    check_books(company.rows)


# --- parked events ------------------------------------------------------------------------------


def append(company: InProcess, identity: str, kind: str, subject: str, data: str) -> None:
    """Write an event into the log from outside."""
    envelope = (
        f'{{"id":"{identity}","type":"popug.tasks.{kind}.v1","subject":"{subject}",'
        f'"time":"2026-03-02T09:00:00Z","data":{data}}}'
    )
    with company.backend.runtime.writing(OPERATOR) as context:
        context.connection.execute("INSERT INTO bus_log (envelope) VALUES (?)", envelope)


def test_close_passes_dead_letters_and_lists_their_amounts(company: InProcess) -> None:
    cents = earn(company, 5)
    task = company.act("kesha", AddTask(title="Wipe the glass"))
    append(company, "bad", "task_assigned", task.task_id, "{}")
    company.act("kesha", CompleteTask(number=task.number))
    append(company, "other", "task_assigned", "nothing", "{}")
    report = close(company)
    assert task.fee_cents is not None
    assert task.reward_cents is not None
    assert report.days[0].payouts_cents == cents - task.fee_cents
    at_stake = [(held.consumer, held.amount_cents) for held in report.set_aside]
    assert at_stake == [("billing", task.fee_cents), ("billing", task.reward_cents), ("billing", 0)]
    assert [report.set_aside[0].event, report.set_aside[2].event] == ["bad", "other"]
    assert close(company, dry_run=True).set_aside == report.set_aside
    append(company, "named", "task_created", task.task_id, "{}")
    held = close(company, dry_run=True).set_aside
    assert {parked.amount_cents for parked in held if parked.event == "named"} == {0}


def test_close_and_dry_run_retry_events_that_are_not_due(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    task = company.act("kesha", AddTask(title="Wipe the glass"))
    with monkeypatch.context() as broken:
        broken.setattr("popug_cli.billing.consumers.post", lambda entries, context: 1 / 0)
        company.act("kesha", CompleteTask(number=task.number))
        held = company.rows("SELECT * FROM bus_set_aside")
        unhealed = close(company, dry_run=True)
        assert [parked.amount_cents for parked in unhealed.set_aside] == [task.reward_cents]
    rehearsed = close(company, dry_run=True)
    assert company.rows("SELECT * FROM bus_set_aside") == held
    report = close(company)
    assert (report.set_aside, report.days[0].rewards_cents) == ([], task.reward_cents)
    assert (rehearsed.set_aside, rehearsed.days) == ([], [msgspec.structs.replace(report.days[0], closed=False)])


def test_failure_of_another_consumer_has_no_amount_at_stake(
    company: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = company.act("kesha", AddTask(title="Wipe the glass"))

    def fail(events: object, context: object) -> None:
        raise ValueError("broken")

    consumers = tuple(
        Consumer(item.name, item.subscribes, fail, item.give_up) if item.name == "analytics" else item
        for item in company.backend.consumers
    )
    monkeypatch.setitem(vars(company.backend), "consumers", consumers)
    company.act("kesha", CompleteTask(number=task.number))
    held = close(company, dry_run=True).set_aside
    assert {(item.consumer, item.amount_cents) for item in held} == {("analytics", 0)}


# --- many users ---------------------------------------------------------------------------------


def test_thousand_people_are_paid_at_once(company: InProcess) -> None:
    people = [f"p{n:04}" for n in range(1000)]
    with company.backend.runtime.writing(OPERATOR) as context:
        for n, who in enumerate(people, 2):
            context.events.publish(
                UserRegistered(user_id=who, username=who, email=f"{who}@example.com", role=Role.WORKER)
            )
            context.events.publish(created(f"t{n}", n, who))
            context.events.publish(assigned(f"t{n}", who))
            context.events.publish(completed_by(f"t{n}", who, company.clock.now()))
    report = close(company, send_mail=False)
    (day,) = report.days
    assert 900 < day.paid_count <= 1000
    assert (report.mail.queued, len(day.payouts)) == (day.paid_count, day.paid_count)
    assert day.payouts_cents == sum(payout.amount_cents for payout in day.payouts)
    assert [payout.username for payout in day.payouts] == sorted(payout.username for payout in day.payouts)
    heads = company.rows(
        "SELECT DISTINCT json_extract(envelope, '$.data.log_head') AS head FROM bus_log"
        f" WHERE type = '{PayoutMade.TYPE}'"
    )
    assert len(heads) == 1
    assert company.act("boss", GetIncome()).days[0].payouts_cents == day.payouts_cents
    check_books(company.rows)


def test_scheduler_closes_as_its_own_actor(company: InProcess) -> None:
    assert company.backend.perform_as(SCHEDULER, CloseDay()).days[0].business_date == MONDAY
    (actor,) = company.rows(
        "SELECT json_extract(envelope, '$.actor') AS actor FROM bus_log WHERE type LIKE '%day_closed%'"
    )
    assert actor == {"actor": "scheduler"}

"""The summary of a closed day for management: mailed once to each admin and accountant, if enabled."""

from datetime import date
from email.message import EmailMessage
from pathlib import Path

import pytest

from popug_cli.mail import summary
from popug_cli.messages.billing import CloseDay, ClosedDay
from popug_cli.messages.company import CheckHealth
from popug_cli.messages.identity import DeactivateUser, SetRole
from popug_cli.messages.mail import ListMails, MailKind, MailLine, SendMail, ShowMail
from popug_cli.messages.principal import OPERATOR, SCHEDULER
from popug_cli.messages.scheduler import RunDue
from popug_cli.messages.tasks import AddTask, CompleteTask
from tests.support.company import InProcess
from tests.support.mail_company import read, receiver
from tests.support.scheduler_fixture import create_company, weak_hash

__all__ = ["weak_hash"]


@pytest.fixture
def company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """Boss the admin, Asya the accountant, Mira the manager and Kesha the worker; summaries are on."""
    monkeypatch.setenv("POPUG_MAIL_SUMMARY", "true")
    company = create_company(tmp_path / "home")
    company.hire("asya", "accountant")
    company.hire("mira", "manager")
    return company


def work(company: InProcess, title: str = "Feed <the> cage") -> None:
    """Complete a new task as its assignee."""
    task = company.act("boss", AddTask(title=title))
    company.act(task.assignee, CompleteTask(number=task.number))


def close(company: InProcess, *, yesterday: bool = False) -> list[ClosedDay]:
    return company.act("boss", CloseDay(yesterday=yesterday)).days


def summary_mails(company: InProcess) -> list[MailLine]:
    mails = company.act("boss", ListMails()).mails
    return [mail for mail in mails if mail.kind is MailKind.SUMMARY]


def letters(company: InProcess) -> dict[str, EmailMessage]:
    """Return the summaries that were delivered, by receiver."""
    mails = [read(file) for file in company.root.glob("mail/new/*")]
    return {receiver(mail): mail for mail in mails if str(mail["Subject"]).startswith("Closed")}


def test_admins_and_accountants_get_the_summary(company: InProcess) -> None:
    work(company)
    (day,) = close(company)
    found = letters(company)
    assert set(found) == {"boss@example.com", "asya@example.com"}
    assert {mail.amount_cents for mail in summary_mails(company)} == {day.income_cents}
    plain = found["boss@example.com"].get_body(("plain",))
    html = found["boss@example.com"].get_body(("html",))
    assert plain is not None
    assert html is not None
    lines = plain.get_content().splitlines()
    assert lines[0].startswith("Management's income of 2026-03-02 is -$")
    assert any("most expensive task" in line and "#1 Feed <the> cage" in line for line in lines)
    assert any("paid out" in line and "to 1 person" in line for line in lines)
    assert "#1 Feed &lt;the&gt; cage" in html.get_content()
    shown = company.act("boss", ShowMail(mail_id=summary_mails(company)[0].mail_id))
    assert shown.text.splitlines()[0] == lines[0]
    assert company.backend.perform(CheckHealth()).ok


def test_each_missed_day_is_summarised_once(company: InProcess) -> None:
    work(company)
    company.clock.advance(days=2)
    run = company.backend.perform(RunDue(), actor=SCHEDULER)
    assert (len(run.days), run.mail.sent) == (2, 1 + 2 * 2)
    close(company, yesterday=True)
    assert sorted({mail.business_date for mail in summary_mails(company)}) == [date(2026, 3, 2), date(2026, 3, 3)]
    assert len(summary_mails(company)) == 4


def test_summary_of_an_empty_day_has_a_sentence(company: InProcess) -> None:
    close(company)
    text = company.act("boss", ShowMail(mail_id=summary_mails(company)[0].mail_id)).text
    assert "nothing was completed" in text
    assert "Management's income of 2026-03-02 is $0." in text


def test_summary_is_off_by_default(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POPUG_MAIL_SUMMARY")
    company.backend.close()
    work(company)
    close(company)
    assert summary_mails(company) == []


def test_dry_run_counts_the_summary_and_queues_nothing(company: InProcess) -> None:
    work(company)
    report = company.act("boss", CloseDay(dry_run=True))
    assert report.mail.queued == 1 + 2
    assert summary_mails(company) == []


def test_summary_lost_in_a_crash_is_sent_by_the_next_close(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr(summary, "enqueue", crash)
        with pytest.raises(KeyboardInterrupt):
            close(company)
    assert summary_mails(company) == []
    close(company)
    assert len(summary_mails(company)) == 2


def test_former_manager_gets_no_summary_even_if_queued(company: InProcess) -> None:
    company.act("boss", CloseDay(send_mail=False))
    company.act("boss", SetRole(username="asya", role="worker"))
    run = company.backend.perform_as(OPERATOR, SendMail())
    assert (run.sent, run.failed) == (1, 1)
    assert [mail.last_error for mail in summary_mails(company) if mail.last_error] == [
        "asya is not an active accountant or admin any more"
    ]
    company.act("boss", SetRole(username="mira", role="accountant"))
    company.act("boss", DeactivateUser(username="mira"))
    company.clock.advance(days=1)
    close(company)
    assert set(letters(company)) == {"boss@example.com"}

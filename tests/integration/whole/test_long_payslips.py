"""A worker with 600 entries in a day: the whole way from the tasks to the mail, and the command that shows the rest."""

from datetime import date

import pytest

from popug_cli.messages.billing import CloseDay, GetStatement
from popug_cli.messages.company import CheckHealth
from popug_cli.messages.mail import ListMails, MailDetails, ShowMail
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import CompleteTask, ImportTasks, NewTask
from tests.support.company import InProcess

DAY = date(2026, 3, 2)
TASKS = 300
TITLE = "Feed the cage and wipe the glass"


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    company = InProcess(tmp_path_factory.mktemp("long") / "home")
    company.hire("ann")
    company.act("boss", ImportTasks(lines=[NewTask(title=TITLE)] * TASKS))
    for number in range(1, TASKS + 1):
        company.act("ann", CompleteTask(number=number))
    company.clock.advance(days=1)
    company.act("boss", CloseDay(yesterday=True))
    return company


def payslip(company: InProcess) -> MailDetails:
    (mail,) = company.act("boss", ListMails()).mails
    return company.act("boss", ShowMail(mail_id=mail.mail_id))


def test_payslip_shows_500_entries_and_names_the_rest(company: InProcess) -> None:
    (paid,) = company.rows(
        "SELECT json_extract(envelope, '$.data.amount_cents') AS cents FROM bus_log"
        " WHERE type = 'popug.billing.payout_made.v2'"
    )
    text = payslip(company).text
    assert text.count("assigned") + text.count("completed") == 500
    assert "100 more" in text
    assert "The day has 600 entries; this payslip shows 500 of them." in text
    assert f"paid ${paid['cents'] / 100:,.2f}".removesuffix(".00") in text


def test_command_of_the_payslip_shows_all_entries(company: InProcess) -> None:
    assert f"popug statement --from {DAY} --to {DAY}" in payslip(company).text
    statement = company.act("ann", GetStatement(from_date=DAY, to_date=DAY))
    assert len(statement.entries) == 601, "600 and the payout"
    assert statement.closing_balance_cents == 0


def test_checks_of_the_doctor_hold(company: InProcess) -> None:
    health = company.backend.perform(CheckHealth(), actor=OPERATOR)
    assert [check.name for check in health.checks if not check.ok] == []

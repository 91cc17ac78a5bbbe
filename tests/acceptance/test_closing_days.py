"""Closing days: yesterday after midnight, on odd calendars and clocks, without mail, twice at once, and on trial."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from tests.acceptance.answers import day_figures, day_of, days_between, parts_of, payouts_of, pick, receiver_of
from tests.support.installed_company import Company, Json, email_of

# --- yesterday, closed late -------------------------------------------------------------------


@dataclass
class LateClose:
    """Close yesterday ten minutes after midnight, when a task of today has been charged."""

    company: Company
    tasks: list[Json]
    answers: list[Json]

    @property
    def earned(self) -> int:
        """Return the figures of the three tasks of yesterday."""
        return sum(task["reward_cents"] - task["fee_cents"] for task in self.tasks[:3])


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> LateClose:
    """St. John's, where it is still yesterday for two and a half hours of the UTC day."""
    company = Company(tmp_path_factory.mktemp("st-johns"), "America/St_Johns")
    company.it_is("2031-06-10 23:40")
    company.init("ada")
    company.hire("kesha", "worker")
    company.import_tasks("kesha", ["One", "Two", "Three"])
    company.ask_all(("kesha", ("task", "complete", str(number))) for number in (1, 2, 3))
    company.it_is("2031-06-11 00:10")
    company.add_task("kesha", "Four")
    answers = [company.ask("ada", "close-day", "--date", "yesterday") for _ in range(2)]
    return LateClose(company, company.tasks(), answers)


def test_yesterday_is_in_the_company_zone(late: LateClose) -> None:
    (day,) = late.answers[0]["days"]
    assert (day["business_date"], day["already_closed"]) == ("2031-06-10", False)
    assert payouts_of(day) == [("kesha", late.earned)]
    assert day["income_cents"] == -late.earned


def test_cron_may_close_yesterday_twice(late: LateClose) -> None:
    (first,), (second,) = late.answers[0]["days"], late.answers[1]["days"]
    assert second["already_closed"] is True
    assert day_figures(second) == day_figures(first)
    assert len(late.company.mails()) == 1


def test_late_payout_leaves_zero_in_its_own_day(late: LateClose) -> None:
    asked = ("--from", "2031-06-10", "--to", "2031-06-11")
    statement = late.company.statement("kesha", "kesha", *asked)
    fee = late.tasks[3]["fee_cents"]
    lines = [(e["business_date"], e["kind"], e["balance_cents"]) for e in statement["entries"]]
    assert lines[-2:] == [("2031-06-10", "payout", 0), ("2031-06-11", "fee", -fee)]
    assert [line[0] for line in lines] == ["2031-06-10"] * 7 + ["2031-06-11"]


def test_present_balance_may_be_negative_after_late_close(late: LateClose) -> None:
    fee = late.tasks[3]["fee_cents"]
    now, then, today = late.company.ask_all([
        ("kesha", ("balance",)), ("kesha", ("balance", "--as-of", "2031-06-10")), ("kesha", ("statement",)),
    ])  # fmt: skip
    assert (now["balance_cents"], then["balance_cents"]) == (-fee, 0)
    assert (today["opening_balance_cents"], today["closing_balance_cents"]) == (0, -fee)


# --- odd calendars and clocks -----------------------------------------------------------------


def test_date_missing_in_the_zone_is_not_a_day(folder: Path) -> None:
    company = Company(folder, "Pacific/Apia")
    company.it_is("2011-12-29 12:00")  # the thirtieth was left out when Samoa crossed the date line
    company.init("ada")
    company.it_is("2011-12-31 08:00")
    answer = company.ask("ada", "close-day")
    assert [day["business_date"] for day in answer["days"]] == ["2011-12-29", "2011-12-31"]


def test_closing_more_than_a_month_needs_yes(lone: Company) -> None:
    first = lone.today()
    lone.clock_offset = timedelta(days=40)
    lone.run("close-day", as_user="ada").refused(2, "needs_yes")
    days = lone.ask("ada", "close-day", "--yes")["days"]
    assert [day["business_date"] for day in days] == days_between(first, lone.today())


def test_close_up_to_a_date_leaves_later_days_open(lone: Company) -> None:
    first = lone.today()
    lone.clock_offset = timedelta(days=3)
    answer = lone.ask("ada", "close-day", "--date", lone.today(-2))
    assert [day["business_date"] for day in answer["days"]] == [first, lone.today(-2)]
    rest = lone.ask("ada", "close-day", "--date", "today")
    assert [day["business_date"] for day in rest["days"]] == [lone.today(-1), lone.today()]


def test_login_and_queries_work_after_clock_set_back(lone: Company) -> None:
    lone.clock_offset = timedelta(days=-2)
    assert lone.run("whoami", as_user="kesha").ok()["username"] == "kesha"
    assert lone.balance_cents("kesha", "kesha") == 0
    assert lone.tasks("kesha") == []


# --- one close --------------------------------------------------------------------------------


@pytest.mark.parametrize("date", ["tomorrow", "9999-12-31"])
def test_future_is_not_closed(lone: Company, date: str) -> None:
    asked = lone.today(1) if date == "tomorrow" else date
    lone.run("close-day", "--date", asked, as_user="ada").refused(2, "future_date")
    assert day_of(lone.ask("ada", "income"), lone.today())["closed"] is False


def test_dry_run_shows_payouts_and_changes_nothing(earned: Company) -> None:
    looks = [("ada", ("statement", "kesha")), ("ada", ("income",)), ("ada", ("analytics",))]
    before = earned.ask_all(looks)
    cents = before[0]["closing_balance_cents"]
    (day,) = earned.ask("ada", "close-day", "--dry-run")["days"]
    assert (day["business_date"], day["already_closed"]) == (earned.today(), False)
    assert payouts_of(day) == [("kesha", cents)]
    assert earned.ask_all(looks) == before
    assert earned.mails() == []
    (real,) = earned.ask("ada", "close-day")["days"]
    assert (real["already_closed"], payouts_of(real)) == (False, [("kesha", cents)])


def test_mail_can_be_queued_without_sending_and_sent_later(earned: Company) -> None:
    closed = earned.ask("ada", "close-day", "--no-mail")
    assert pick(closed["mail"], "sent", "queued") == {"sent": 0, "queued": 1}
    assert earned.mails() == []
    sent = earned.ask("ada", "mail", "send", "--yes")
    assert pick(sent, "sent", "queued", "failed") == {"sent": 1, "queued": 0, "failed": 0}
    assert [receiver_of(mail) for mail in earned.mails()] == [email_of("kesha")]
    assert pick(earned.ask("ada", "mail", "send", "--yes"), "sent") == {"sent": 0}
    assert len(earned.mails()) == 1


def test_titles_are_escaped_in_mail(earned: Company) -> None:
    earned.ask("ada", "close-day")
    (mail,) = earned.mails()
    text, html = parts_of(mail)
    assert "Wipe <b>the</b> glass & bars" in text
    assert "Wipe &lt;b&gt;the&lt;/b&gt; glass &amp; bars" in html
    assert "<b>the</b>" not in html


def test_two_closes_at_once_pay_once(earned: Company) -> None:
    cents = earned.balance_cents("ada", "kesha")
    answers = earned.ask_all([("ada", ("close-day",))] * 2)
    assert sorted(answer["days"][0]["already_closed"] for answer in answers) == [False, True]
    entries = earned.statement("ada", "kesha")["entries"]
    assert [e["amount_cents"] for e in entries if e["kind"] == "payout"] == [cents]
    assert len({mail["Message-ID"] for mail in earned.mails()}) == 1

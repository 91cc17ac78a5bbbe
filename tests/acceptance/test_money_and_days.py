"""Money and business dates of six days in Auckland through the command line: missed days, and figures of the past."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.acceptance.answers import day_figures, day_of, parts_of, payouts_of, pick, receiver_of, shows_dollars
from tests.support.installed_company import Company, Json, email_of

TITLES = {
    1: "Feed the cage",
    2: "Wipe the glass",
    3: "Mend the swing",
    4: "Oil the hinge",
    5: "Sort the nuts",
}

# Kesha's entries on these days in Auckland, by business date: (kind, number of the task).
# The fifth task is completed on 4 March, after that day's close: so it falls on 5 March.
HAPPENED: dict[str, list[tuple[str, int]]] = {
    "2031-02-28": [("fee", 1), ("fee", 2), ("reward", 1), ("reward", 2)],
    "2031-03-01": [("fee", 3), ("reward", 3)],
    "2031-03-02": [],
    "2031-03-03": [("fee", 4), ("fee", 5), ("reward", 4)],
    "2031-03-04": [],
    "2031-03-05": [("reward", 5)],
}
COMPLETED_ON = {1: "2031-02-28", 2: "2031-02-28", 3: "2031-03-01", 4: "2031-03-03", 5: "2031-03-05"}


@dataclass
class Figures:
    """The expected figures of one day."""

    opening: int
    fees: int
    rewards: int
    payout: int
    closing: int

    def of_company(self, date: str) -> Json:
        """Return the contract's `day` of a closed day with Kesha as the only worker."""
        return {
            "business_date": date,
            "closed": True,
            "fees_cents": self.fees,
            "rewards_cents": self.rewards,
            "income_cents": self.fees - self.rewards,
            "payouts_cents": self.payout,
            "paid_count": int(self.payout > 0),
            "in_red_count": int(self.closing < 0),
        }


@dataclass
class History:
    """Six days of Ada and Kesha in Auckland, none of them closed before the fifth."""

    company: Company
    prices: dict[int, tuple[int, int]] = field(default_factory=dict)  # fee and reward by number
    completed_at: dict[int, str] = field(default_factory=dict)
    close: Json = field(default_factory=dict)
    close_again: Json = field(default_factory=dict)
    after_close: dict[str, Any] = field(default_factory=dict)
    last_close: Json = field(default_factory=dict)

    def cents(self, kind: str, number: int) -> int:
        """Return the amount of an entry."""
        return self.prices[number][kind == "reward"]

    def figures(self) -> dict[str, Figures]:
        """Return each day's figures, with every day closed separately."""
        found: dict[str, Figures] = {}
        balance = 0
        for date, lines in HAPPENED.items():
            fees = sum(self.cents(kind, n) for kind, n in lines if kind == "fee")
            rewards = sum(self.cents(kind, n) for kind, n in lines if kind == "reward")
            before = balance + rewards - fees
            payout = max(before, 0)
            found[date] = Figures(balance, fees, rewards, payout, before - payout)
            balance = before - payout
        return found

    def dearest(self, dates: list[str]) -> Json | None:
        """Return the most expensive of the tasks that were completed on one of these dates."""
        numbers = [number for number, date in COMPLETED_ON.items() if date in dates]
        if not numbers:
            return None
        best = min(numbers, key=lambda n: (-self.cents("reward", n), self.completed_at[n]))
        return {"number": best, "title": TITLES[best], "reward_cents": self.cents("reward", best)}


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """Friday to Wednesday over the end of a month; closed on Tuesday morning and on Wednesday."""
    company = Company(tmp_path_factory.mktemp("auckland"), "Pacific/Auckland")
    company.it_is("2031-02-28 10:00")
    company.init("ada")
    company.hire("kesha", "worker")
    company.import_tasks("kesha", [TITLES[1], TITLES[2]])
    company.complete("kesha", 1)
    company.complete("kesha", 2)

    company.it_is("2031-03-01 11:00")
    company.add_task("kesha", TITLES[3])
    company.complete("kesha", 3)

    company.it_is("2031-03-03 08:00")  # still the second of March in UTC
    company.import_tasks("kesha", [TITLES[4], TITLES[5]])
    company.complete("kesha", 4)

    company.it_is("2031-03-04 09:00")
    history = History(company)
    history.close = company.ask("ada", "close-day")
    history.close_again = company.ask("ada", "close-day")
    company.complete("kesha", 5)
    asked: dict[str, tuple[str, ...]] = {
        "today": ("statement", "kesha"),
        "tomorrow": ("statement", "kesha", "--from", "2031-03-05", "--to", "2031-03-05"),
        "now": ("balance", "kesha"),
        "as of today": ("balance", "kesha", "--as-of", "2031-03-04"),
        "as of tomorrow": ("balance", "kesha", "--as-of", "2031-03-05"),
        "income today": ("income", "--from", "2031-03-04", "--to", "2031-03-04"),
        "income tomorrow": ("income", "--from", "2031-03-05", "--to", "2031-03-05"),
        "analytics today": ("analytics",),
    }
    answers = company.ask_all(("ada", command) for command in asked.values())
    history.after_close = dict(zip(asked, answers, strict=True))

    company.it_is("2031-03-05 09:00")
    history.last_close = company.ask("ada", "close-day")
    tasks = company.tasks()
    history.prices = {task["number"]: (task["fee_cents"], task["reward_cents"]) for task in tasks}
    history.completed_at = {task["number"]: task["completed_at"] for task in tasks}
    return history


# --- missed days --------------------------------------------------------------------------------


def test_missed_days_are_closed_each_as_itself_oldest_first(history: History) -> None:
    days, figures = history.close["days"], history.figures()
    assert [day["business_date"] for day in days] == list(HAPPENED)[:5]
    assert [day_figures(day) for day in days] == [figures[d].of_company(d) for d in list(HAPPENED)[:5]]
    assert [day["already_closed"] for day in days] == [False] * 5


def test_each_missed_day_pays_the_balance_at_its_end(history: History) -> None:
    figures = history.figures()
    for day in [*history.close["days"], *history.last_close["days"]]:
        payout = figures[day["business_date"]].payout
        assert payouts_of(day) == ([("kesha", payout)] if payout else [])


def test_closed_day_is_reported_again_and_not_paid_again(history: History) -> None:
    (day,) = history.close_again["days"]
    assert day["already_closed"] is True
    assert day_figures(day) == day_figures(history.close["days"][-1])
    assert history.close_again["mail"]["sent"] == 0


def test_entries_after_todays_close_are_dated_tomorrow(history: History) -> None:
    figures, seen = history.figures(), history.after_close
    reward = history.cents("reward", 5)
    today = [entry for entry in seen["today"]["entries"] if entry["business_date"] == "2031-03-04"]
    assert [entry for entry in today if entry["kind"] == "reward"] == []
    (entry,) = seen["tomorrow"]["entries"]
    assert seen["today"]["entries"][-1] == entry
    assert (entry["kind"], entry["task"]["number"], entry["business_date"]) == ("reward", 5, "2031-03-05")
    assert entry["occurred_at"].startswith("2031-03-03T20:")  # nine in the morning of 4 March in Auckland
    debt = figures["2031-03-04"].closing
    assert seen["now"]["balance_cents"] == debt + reward
    as_of_today = pick(seen["as of today"], "balance_cents", "earned_today_cents", "business_date")
    assert as_of_today == {"balance_cents": debt, "earned_today_cents": 0, "business_date": "2031-03-04"}
    as_of_tomorrow = pick(seen["as of tomorrow"], "balance_cents", "earned_today_cents", "business_date")
    assert as_of_tomorrow == {
        "balance_cents": debt + reward, "earned_today_cents": reward, "business_date": "2031-03-05",
    }  # fmt: skip


def test_income_after_todays_close_is_tomorrows(history: History) -> None:
    seen, reward = history.after_close, history.cents("reward", 5)
    assert day_of(seen["income today"], "2031-03-04") == history.figures()["2031-03-04"].of_company("2031-03-04")
    tomorrow = day_of(seen["income tomorrow"], "2031-03-05")
    assert pick(tomorrow, "fees_cents", "rewards_cents", "income_cents", "closed") == {
        "fees_cents": 0, "rewards_cents": reward, "income_cents": -reward, "closed": False,
    }  # fmt: skip
    assert seen["analytics today"]["business_date"] == "2031-03-04"
    assert seen["analytics today"]["income_cents"] == 0
    assert seen["analytics today"]["most_expensive"]["day"] is None


def test_next_close_takes_only_the_day_that_is_left(history: History) -> None:
    (day,) = history.last_close["days"]
    assert day_figures(day) == history.figures()["2031-03-05"].of_company("2031-03-05")


def test_each_paid_day_has_its_own_mail_with_its_own_entries(history: History) -> None:
    mails = history.company.mails()
    paid = {date: figure for date, figure in history.figures().items() if figure.payout}
    assert len(mails) == len({mail["Message-ID"] for mail in mails}) == len(paid)
    assert {receiver_of(mail) for mail in mails} == {email_of("kesha")}
    for date, figure in paid.items():
        titles = {TITLES[number] for _, number in HAPPENED[date]}
        texts = [parts_of(mail)[0] for mail in mails]
        (text,) = [text for text in texts if {title for title in TITLES.values() if title in text} == titles]
        assert shows_dollars(text, figure.payout)
        if figure.opening:
            assert shows_dollars(text, figure.opening)


def test_list_of_mails_names_day_and_sum_of_each(history: History) -> None:
    listed = history.company.ask("ada", "mail", "list")["mails"]
    lines = sorted((mail["business_date"], mail["amount_cents"], mail["to"], mail["status"]) for mail in listed)
    figures = history.figures().items()
    assert lines == [(date, f.payout, email_of("kesha"), "sent") for date, f in figures if f.payout]


# --- past figures -------------------------------------------------------------------------------


def test_statement_over_days_is_ordered_by_business_date(history: History) -> None:
    statement = history.company.statement("kesha", "kesha", "--from", "2031-02-28", "--to", "2031-03-05")
    figures = history.figures()
    expected: list[tuple[str, str, int]] = []
    for date, lines in HAPPENED.items():
        expected += [(date, kind, history.cents(kind, number)) for kind, number in lines]
        expected += [(date, "payout", figures[date].payout)] if figures[date].payout else []
    found = [(e["business_date"], e["kind"], e["amount_cents"]) for e in statement["entries"]]
    assert found == expected
    running = statement["opening_balance_cents"]
    assert running == 0
    for entry in statement["entries"]:
        running += entry["signed_cents"]
        assert entry["balance_cents"] == running
        assert entry["kind"] != "payout" or running == 0
    assert statement["closing_balance_cents"] == running == figures["2031-03-05"].closing


def test_statement_opens_with_the_earlier_balance(history: History) -> None:
    figures = history.figures()
    asked = ("statement", "--from", "2031-03-04", "--to", "2031-03-05")
    statement = history.company.ask("kesha", *asked)
    assert statement["username"] == "kesha"
    assert statement["opening_balance_cents"] == figures["2031-03-03"].closing
    assert statement["closing_balance_cents"] == figures["2031-03-05"].closing


def test_balance_as_of_date_includes_payout_of_that_date(history: History) -> None:
    dates = ["2031-02-28", "2031-03-02", "2031-03-03", "2031-03-05"]
    answers = history.company.ask_all(("kesha", ("balance", "--as-of", date)) for date in dates)
    figures = [history.figures()[date] for date in dates]
    assert [answer["balance_cents"] for answer in answers] == [figure.closing for figure in figures]
    assert [answer["earned_today_cents"] for answer in answers] == [figure.rewards for figure in figures]
    assert [answer["business_date"] for answer in answers] == dates


def test_balance_as_of_time_counts_entries_recorded_by_then(history: History) -> None:
    noon_of_the_first = "2031-02-28T23:00:00Z"  # before anything was paid, in Auckland noon of 1 March
    figures = history.figures()
    earned = sum(figures[date].rewards - figures[date].fees for date in ("2031-02-28", "2031-03-01"))
    dates = ("--from", "2031-02-28", "--to", "2031-03-05")
    balance, statement, income = history.company.ask_all(
        [
            ("ada", ("balance", "kesha", "--as-of", noon_of_the_first)),
            ("ada", ("statement", "kesha", *dates, "--as-of", noon_of_the_first)),
            ("ada", ("income", *dates, "--as-of", noon_of_the_first)),
        ]
    )
    assert balance["balance_cents"] == earned
    assert statement["closing_balance_cents"] == earned
    assert [entry["kind"] for entry in statement["entries"]] == [
        "fee",
        "fee",
        "reward",
        "reward",
        "fee",
        "reward",
    ]
    assert income["total_income_cents"] == -earned


def test_income_is_listed_by_day_and_summed(history: History) -> None:
    income = history.company.ask("ada", "income", "--from", "2031-02-28", "--to", "2031-03-05")
    figures = history.figures()
    for date in ("2031-02-28", "2031-03-01", "2031-03-03", "2031-03-05"):
        assert day_of(income, date) == figures[date].of_company(date)
    assert income["total_income_cents"] == sum(figure.fees - figure.rewards for figure in figures.values())


def test_range_before_the_company_or_in_the_future_is_empty(history: History) -> None:
    before, future = (
        ("--from", "2019-01-01", "--to", "2019-01-31"),
        ("--from", "2040-01-01", "--to", "2040-01-31"),
    )
    old, new, income = history.company.ask_all([
        ("kesha", ("statement", *before)), ("kesha", ("statement", *future)), ("ada", ("income", *before)),
    ])  # fmt: skip
    closing = history.figures()["2031-03-05"].closing
    assert (old["entries"], old["opening_balance_cents"], old["closing_balance_cents"]) == ([], 0, 0)
    assert (new["entries"], new["opening_balance_cents"], new["closing_balance_cents"]) == (
        [],
        closing,
        closing,
    )
    assert income["total_income_cents"] == 0


@pytest.mark.parametrize(
    ("date", "week", "month", "by_day"),
    [
        (
            "2031-03-01",
            ("2031-02-24", "2031-03-02", ["2031-02-28", "2031-03-01"]),
            ("2031-03-01", "2031-03-31", ["2031-03-01", "2031-03-03", "2031-03-05"]),
            ["2031-03-01"],
        ),
        (
            "2031-03-04",
            ("2031-03-03", "2031-03-09", ["2031-03-03", "2031-03-05"]),
            ("2031-03-01", "2031-03-31", ["2031-03-01", "2031-03-03", "2031-03-05"]),
            ["2031-03-03", "2031-03-01"],
        ),
        (
            "2031-02-28",
            ("2031-02-24", "2031-03-02", ["2031-02-28", "2031-03-01"]),
            ("2031-02-01", "2031-02-28", ["2031-02-28"]),
            ["2031-02-28"],
        ),
    ],
    ids=["saturday", "tuesday-without-any", "friday"],
)
def test_analytics_of_a_date(
    history: History,
    date: str,
    week: tuple[str, str, list[str]],
    month: tuple[str, str, list[str]],
    by_day: list[str],
) -> None:
    analytics = history.company.ask("ada", "analytics", "--date", date)
    figure = history.figures()[date]
    assert analytics["business_date"] == date
    assert analytics["income_cents"] == figure.fees - figure.rewards
    assert analytics["in_red_count"] == int(figure.closing < 0)

    def check(found: Json | None, first: str, last: str, dates: list[str]) -> None:
        expected = history.dearest(dates)
        if expected is None or found is None:
            assert found is expected
            return
        assert (found["from"], found["to"]) == (first, last)
        assert {**pick(found["task"], "number", "title"), "reward_cents": found["reward_cents"]} == expected

    dearest = analytics["most_expensive"]
    check(dearest["day"], date, date, [date])
    check(dearest["week"], *week)
    check(dearest["month"], *month)
    assert len(dearest["by_day"]) == len(by_day)
    for line, day in zip(dearest["by_day"], by_day, strict=True):
        check(line, day, day, [day])


def test_doctor_finds_nothing_wrong_with_days_closed_late(history: History) -> None:
    doctor = history.company.run("doctor").ok()
    assert doctor["ok"] is True
    assert [check["name"] for check in doctor["checks"] if not check["ok"]] == []


def test_money_for_people_is_written_in_dollars(earned: Company, lone: Company) -> None:
    fee = lone.add_task("kesha", "Feed the cage")["fee_cents"]
    cents = earned.balance_cents("kesha", "kesha")
    plus = earned.run("balance", as_user="kesha", as_json=False)
    minus = lone.run("balance", as_user="kesha", as_json=False)
    assert (plus.code, minus.code) == (0, 0)
    assert shows_dollars(plus.stdout, cents)
    assert f"-${fee // 100}" in minus.stdout

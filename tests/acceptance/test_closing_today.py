"""Closing the running day: the question at a terminal, and the date that money counts for afterwards."""

import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.support.installed_company import Company, Json
from tests.support.terminal import answer_at_terminal

PROMPT = "[y/N]"


@pytest.fixture
def company(lone_template: Company, folder: Path) -> Company:
    """Ada and Kesha, who has completed a task."""
    company = lone_template.copy_to(folder)
    company.add_task("ada", "Feed the cage")
    company.complete("kesha", 1)
    return company


def at_terminal(
    company: Company, *words: str, answer: str = "y\n", before_answer: Callable[[], object] = lambda: None
) -> tuple[int, str]:
    company.be_served()
    return answer_at_terminal(
        [sys.executable, "-m", "popug_cli", *words],
        PROMPT,
        answer,
        environment=company.environment("ada") | {"TERM": "dumb"},
        before_answer=before_answer,
    )


def counts_for_tomorrow(company: Company) -> str:
    return f"(counts for {date.fromisoformat(company.today(plus_days=1)):%a %m-%d})"


def income_today(company: Company) -> Json:
    (day,) = company.ask("ada", "income", "--from", "today")["days"][:1]
    assert isinstance(day, dict)
    return day


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("yes\n", 0), ("\n", 2), ("n\n", 2), ("\x04", 2)])
def test_close_of_running_day_is_asked_at_a_terminal(company: Company, answer: str, status: int) -> None:
    paid = company.balance_cents("ada", "kesha")
    code, shown = at_terminal(company, "close-day", answer=answer)
    assert code == status, shown
    assert f"{company.today()} is not over" in shown
    assert f"1 payout, ${paid // 100} in all" in shown or paid <= 0
    assert counts_for_tomorrow(company).strip("()") in " ".join(shown.split())
    assert income_today(company)["closed"] is (status == 0)


@pytest.mark.parametrize(
    "words",
    [("--yes",), ("--date", "today"), ("--date=yesterday",), ("--dry-run",), ("--date", "today", "--json")],
)
def test_close_with_date_or_yes_asks_nothing(company: Company, words: tuple[str, ...]) -> None:
    code, shown = at_terminal(company, "close-day", *words)
    assert (code, PROMPT in shown, "not over" in shown) == (0, False, False), shown


def test_close_without_terminal_asks_nothing(company: Company) -> None:
    assert company.run("close-day", as_user="ada").ok()["days"][-1]["business_date"] == company.today()


def test_closed_day_is_not_asked_for_again(company: Company) -> None:
    company.ask("ada", "close-day")
    code, shown = at_terminal(company, "close-day")
    assert (code, PROMPT in shown, "was already closed" in shown) == (0, False, True), shown


def test_close_of_another_total_than_shown_is_refused(company: Company) -> None:
    company.add_task("ada", "Wipe the glass")
    code, shown = at_terminal(company, "close-day", before_answer=lambda: company.complete("kesha", 2))
    assert code == 6, shown
    assert "Nothing was closed" in shown
    assert not income_today(company)["closed"]
    assert at_terminal(company, "close-day")[0] == 0
    assert company.balance_cents("ada", "kesha") <= 0


def test_worker_is_refused_before_any_question(company: Company) -> None:
    company.hire("gosha", "worker")
    code, shown = answer_at_terminal(
        [sys.executable, "-m", "popug_cli", "close-day"], PROMPT, "y\n",
        environment=company.environment("gosha"), before_answer=lambda: None,
    )  # fmt: skip
    assert (code, PROMPT in shown) == (5, False), shown


def test_defaults_follow_the_open_business_date(company: Company) -> None:
    company.ask("ada", "close-day")
    company.add_task("ada", "Wipe the glass")
    company.complete("kesha", 2)
    balance = company.ask("kesha", "balance")
    assert balance["business_date"] == company.today(plus_days=1)
    assert balance["earned_today_cents"] == company.ask("kesha", "task", "show", "2")["task"]["reward_cents"]
    statement = company.ask("kesha", "statement")
    assert statement["closing_balance_cents"] == balance["balance_cents"]
    assert {entry["business_date"] for entry in statement["entries"]} == {company.today(), company.today(plus_days=1)}
    today = company.ask("kesha", "today", "--peek")
    assert today["earned_today_cents"] == balance["earned_today_cents"]
    assert (today["business_date"], today["open_business_date"]) == (company.today(), company.today(plus_days=1))


@pytest.mark.parametrize("is_closed", [True, False])
def test_other_date_than_today_is_named(company: Company, is_closed: bool) -> None:
    if is_closed:
        company.ask("ada", "close-day")
    shown = [company.run("task", "add", "Wipe the glass", as_user="ada", as_json=False)]
    folder = company.folder
    (folder / "chores.txt").write_text("Oil the hinge\n")
    for line in (("tasks", "shuffle", "--yes"), ("tasks", "import", str(folder / "chores.txt"))):
        shown.append(company.run(*line, as_user="ada", as_json=False))
    for words in (("task", "complete", "2"), ("balance",), ("today", "--peek"), ("dashboard",)):
        shown.append(company.run(*words, as_user="kesha", as_json=False))
    named = [counts_for_tomorrow(company) in result.stdout for result in shown]
    assert named == [is_closed] * len(shown), shown


@pytest.mark.parametrize("is_closed", [True, False])
def test_json_of_changed_task_names_another_date_only(company: Company, is_closed: bool) -> None:
    if is_closed:
        company.ask("ada", "close-day")
    changed = [company.ask("ada", "task", "add", "Wipe the glass"), company.ask("kesha", "task", "complete", "2")]
    assert [task.get("counts_for") for task in changed] == [company.today(plus_days=1) if is_closed else None] * 2
    assert ["counts_for" in task for task in changed] == [is_closed] * 2


def test_next_day_counts_for_itself_again(company: Company) -> None:
    company.ask("ada", "close-day")
    company.clock_offset = timedelta(days=1)
    balance = company.ask("kesha", "balance")
    assert (balance["business_date"], balance["earned_today_cents"]) == (company.today(), 0)
    assert "counts for" not in company.run("today", as_user="kesha", as_json=False).stdout


def test_statement_ends_with_balance_after_clock_set_back(company: Company) -> None:
    company.clock_offset = timedelta(days=2)
    company.ask("ada", "close-day")
    company.add_task("ada", "Wipe the glass")
    company.clock_offset = timedelta(0)
    balance, statement = company.ask("kesha", "balance"), company.ask("kesha", "statement")
    assert balance["business_date"] == company.today(plus_days=3)
    assert statement["closing_balance_cents"] == balance["balance_cents"]
    assert statement["entries"][-1]["business_date"] == company.today(plus_days=3)

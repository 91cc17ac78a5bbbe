"""Balances, statements, income and debts as of an instant, as they were answered then."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from popug_cli.billing.as_of import highest_reward_by_day, in_red_as_of
from popug_cli.billing.queries import export_day_ends
from popug_cli.messages.billing import Balance, ExportDayEnds
from popug_cli.messages.most_expensive import MostExpensiveCandidate
from popug_cli.messages.principal import OPERATOR
from tests.support.billing_company import BillingCompany, assigned

TODAY = "2026-03-02"
TOMORROW = "2026-03-03"


@pytest.fixture
def house(tmp_path: Path) -> BillingCompany:
    house = BillingCompany(tmp_path / "home")
    house.register("kesha", "gosha")
    return house


def test_in_red_as_of_returns_what_was_recorded_by_then(house: BillingCompany) -> None:
    house.set_local_time("2026-03-02 10:00")
    first = house.task("gosha")
    for _ in range(5):
        house.task("kesha", completed=True)
    house.set_local_time("2026-03-03 10:00")
    house.task("kesha")
    house.set_local_time("2026-03-03 11:00")
    house.close(TODAY)
    house.set_local_time("2026-03-04 10:00")
    house.complete(first, "gosha")

    def in_red(at: str) -> list[int]:
        days = [date(2026, 3, day) for day in (1, 2, 3, 4, 5)]
        with house.runtime.reading(OPERATOR) as context:
            return [in_red_as_of(day, house.instant(at), context) for day in days]

    assert in_red("2026-03-02 09:00") == [0, 0, 0, 0, 0]
    assert in_red("2026-03-03 10:30") == [0, 1, 1, 1, 1]
    assert in_red("2026-03-03 11:30") == [0, 1, 2, 2, 2]
    assert in_red("2026-03-04 11:00") == [0, 1, 2, 1, 1]


def test_highest_reward_of_a_date_has_its_task(house: BillingCompany) -> None:
    tasks = [house.task("kesha", completed=True) for _ in range(5)]
    house.clock.advance(hours=1)
    house.task("gosha", completed=True)
    rewards = [house.price(task).reward_cents for task in tasks]
    number = rewards.index(max(rewards)) + 1
    as_of = house.clock.now() - timedelta(minutes=1)
    with house.runtime.reading(OPERATOR) as context:
        highest_rewards = highest_reward_by_day(date(2026, 3, 1), date(2026, 3, 2), as_of, context)
    completed_at = datetime(2026, 3, 2, 9, tzinfo=UTC)
    assert highest_rewards == [
        MostExpensiveCandidate(-max(rewards), completed_at, number, f"Task {number}", date(2026, 3, 2))
    ]


def test_entry_dated_after_today_counts_today(house: BillingCompany) -> None:
    house.set_local_time("2026-03-05 10:00")
    house.publish(assigned("a", "kesha"))
    house.set_local_time("2026-03-04 10:00")
    house.catch_up()
    with house.runtime.reading(OPERATOR) as context:
        in_red_counts = [in_red_as_of(date(2026, 3, day), house.clock.now(), context) for day in (3, 4, 5)]
    assert in_red_counts == [0, 1, 1]


def test_day_ends_up_to_a_position_match_that_ledger(house: BillingCompany) -> None:
    def ends(up_to: int) -> dict[tuple[str, str], int]:
        with house.runtime.reading(OPERATOR) as context:
            export = export_day_ends(ExportDayEnds(up_to=up_to), context)
        assert export.after is None
        return {(end.account, str(end.business_date)): end.balance_cents for end in export.ends}

    house.set_local_time("2026-03-03 10:00")
    house.task("kesha", completed=True)
    house.task("gosha")
    before = ends(3)
    for moment in ("2026-03-03 11:00", "2026-03-04 11:00"):
        house.set_local_time(moment)
        for name in ("kesha", "gosha"):
            house.task(name, completed=name == "gosha")
    after = ends(3)
    assert {key: cents for key, cents in after.items() if key in before} == before
    assert {account: after[account, "2026-03-04"] for account, _ in after} == {
        account: before[account, "2026-03-03"] for account, _ in before
    }


@pytest.fixture
def house_with_past(house: BillingCompany) -> BillingCompany:
    """Three days: the first closed on the second, the second still open on the third."""
    first = house.task("kesha", completed=True)
    house.publish_and_catch_up(assigned(first, "gosha"))
    house.set_local_time("2026-03-03 09:00")
    house.task("gosha")
    house.set_local_time("2026-03-03 10:00")
    house.close(TODAY)
    house.set_local_time("2026-03-03 11:00")
    house.task("kesha", completed=True)
    house.set_local_time("2026-03-04 12:00")
    house.task("kesha")
    return house


def test_as_of_an_instant_equals_the_answer_of_then(tmp_path: Path) -> None:
    house = BillingCompany(tmp_path / "home")
    house.register("kesha", "gosha")
    answers = []
    for moment, name, close in (
        ("2026-03-02 10:00", "kesha", None),
        ("2026-03-02 20:00", "gosha", None),
        ("2026-03-03 00:20", "kesha", TODAY),
        ("2026-03-03 20:00", "gosha", TOMORROW),
        ("2026-03-03 21:00", "kesha", None),
        ("2026-03-06 09:00", "gosha", "2026-03-05"),
        ("2026-03-06 10:00", "kesha", None),
        ("2026-03-06 11:00", "kesha", None),
    ):
        house.set_local_time(moment)
        house.task(name, completed=name == "kesha")
        if close:
            house.close(close)
        spoken = [house.balance(who) for who in ("kesha", "gosha")]
        statements = [house.statement("kesha", first, "2026-03-09") for first in (TODAY, TOMORROW)]
        answers.append((house.clock.now(), spoken, statements, house.income()))
    for instant, spoken, statements, income in answers:
        assert [house.balance(who, as_of_time=instant) for who in ("kesha", "gosha")] == spoken
        for first, statement in zip((TODAY, TOMORROW), statements, strict=True):
            assert house.statement("kesha", first, "2026-03-09", as_of_time=instant) == statement
        assert house.income(as_of_time=instant) == income


def test_as_of_now_equals_the_plain_answer(house_with_past: BillingCompany) -> None:
    now, today = house_with_past.clock.now(), date(2026, 3, 4)
    for name in ("kesha", "gosha"):
        plain = house_with_past.balance(name)
        assert house_with_past.balance(name, as_of_time=now) == house_with_past.balance(name, as_of_date=today) == plain
        statement = house_with_past.statement(name, TODAY, "2026-03-04")
        assert house_with_past.statement(name, TODAY, "2026-03-04", as_of_time=now) == statement
        assert statement.closing_balance_cents == plain.balance_cents
    assert (
        house_with_past.income(as_of_time=now) == house_with_past.income(as_of_date=today) == house_with_past.income()
    )


def test_as_of_before_the_company_is_empty(house_with_past: BillingCompany) -> None:
    then = house_with_past.instant("2026-03-01 10:00")
    day = date(2026, 3, 1)
    assert house_with_past.balance("kesha", as_of_time=then) == Balance("kesha", 0, 0, day, today=day)
    assert house_with_past.income(as_of_time=then).days == []
    assert house_with_past.statement("kesha", TODAY, TOMORROW, as_of_time=then).entries == []

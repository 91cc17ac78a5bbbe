"""Balances as of an instant are sums of whole ledger segments and a few entries, and are exact."""

import random
from datetime import UTC, date, datetime, timedelta

import pytest

from popug_cli.billing.balances import balance_change
from popug_cli.messages.principal import OPERATOR
from tests.support.billing_company import BillingCompany, assigned, completed_by, created

PEOPLE = ("kesha", "gosha")
INSTANTS = [datetime(2026, 3, 2, 9, tzinfo=UTC) + timedelta(hours=hours) for hours in range(0, 120, 7)]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> BillingCompany:
    """Some 33,000 entries in fifty transactions; the clock is moved both ways, and two days are closed."""
    chance = random.Random(5)
    house = BillingCompany(tmp_path_factory.mktemp("house"))
    house.register(*PEOPLE)
    for turn in range(50):
        house.clock.instant = chance.choice(INSTANTS) + timedelta(minutes=turn)
        task = f"task-{turn}"
        who = chance.choice(PEOPLE)
        house.publish_and_catch_up(
            created(task, turn + 1, who),
            *(assigned(task, chance.choice(PEOPLE)) for _ in range(660)),
            completed_by(task, who, house.clock.now()),
        )
        if turn in {20, 40}:
            house.close("2026-03-02" if turn == 20 else "2026-03-03")
    return house


def by_hand(house: BillingCompany, who: str, days: tuple[date, date], as_of: datetime) -> tuple[int, int]:
    change_cents = earned_cents = 0
    for row in house.rows("SELECT * FROM billing_entries"):
        recorded_at = datetime.fromisoformat(row["recorded_at"])
        in_days = days[0] <= date.fromisoformat(row["business_date"]) <= days[1]
        if row["employee_id"] == who and in_days and recorded_at <= as_of:
            sign = 1 if row["credit_account"] == who else -1
            change_cents += sign * row["amount_cents"]
            earned_cents += row["amount_cents"] * (row["kind"] == "reward")
    return change_cents, earned_cents


def test_past_balances_are_exact_after_clock_set_back(house: BillingCompany) -> None:
    assert len(house.rows("SELECT DISTINCT segment FROM billing_segments")) == 4
    spans = [(date.min, date.max), (date(2026, 3, 4), date(2026, 3, 4)), (date.min, date(2026, 3, 3))]
    asked = [(who, days, at) for who in PEOPLE for days in spans for at in INSTANTS[::3]]
    with house.runtime.reading(OPERATOR) as context:
        told = [tuple(balance_change(who, days, at + timedelta(minutes=30), context)) for who, days, at in asked]
    assert told == [by_hand(house, who, days, at + timedelta(minutes=30)) for who, days, at in asked]
    assert len({each for each, _ in told}) > 10

"""The rules of money and days."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popug_cli.billing import rules, sql
from popug_cli.billing.rules import DayMovement, OpenFigures
from popug_cli.kernel import calendar
from popug_cli.kernel.text import MAX_REASON_CHARACTERS
from popug_cli.messages.billing import EntryKind
from tests.support.error_checks import refused

MONDAY = date(2026, 3, 2)
days = st.dates(date(2026, 1, 1), date(2026, 12, 31))
cents = st.integers(-5000, 5000)


def day(offset: int) -> date:
    return MONDAY + timedelta(days=offset)


# --- entries ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "debit", "credit", "signed"),
    [
        (EntryKind.FEE, "kesha", "management", -700),
        (EntryKind.REWARD, "management", "kesha", 700),
        (EntryKind.PAYOUT, "kesha", "payouts", -700),
        (EntryKind.FEE_REVERSAL, "management", "kesha", 700),
        (EntryKind.REWARD_REVERSAL, "kesha", "management", -700),
    ],
)
def test_entry_kind_gives_its_direction(kind: EntryKind, debit: str, credit: str, signed: int) -> None:
    assert rules.debit_and_credit(kind, "kesha") == (debit, credit)
    assert kind.balance_sign * 700 == signed


def test_fees_and_rewards_move_against_and_with_the_balance() -> None:
    for kind in set(EntryKind) - {EntryKind.PAYOUT}:
        assert kind.reward_sign - kind.fee_sign == kind.balance_sign
    assert (EntryKind.PAYOUT.fee_sign, EntryKind.PAYOUT.reward_sign) == (0, 0)


@pytest.mark.parametrize("kind", EntryKind)
def test_sql_signs_an_amount_as_the_kind_does(kind: EntryKind) -> None:
    columns = ", ".join((sql.SIGNED, sql.FEES, sql.REWARDS, sql.PAYOUTS))
    with closing(sqlite3.connect(":memory:")) as database:
        row = database.execute(
            f"SELECT {columns} FROM (SELECT ? AS kind, 700 AS amount_cents) entry", (kind,)
        ).fetchone()
    signs = (kind.balance_sign, kind.fee_sign, kind.reward_sign, int(kind is EntryKind.PAYOUT))
    assert row == tuple(sign * 700 for sign in signs)


# --- prices -------------------------------------------------------------------------------------


def test_prices_are_whole_dollars_within_their_bounds() -> None:
    prices = [rules.draw_price_cents("seed", f"task-{n}") for n in range(4000)]
    assert {fee for fee, _ in prices} == {dollars * 100 for dollars in range(10, 21)}
    assert {reward for _, reward in prices} == {dollars * 100 for dollars in range(20, 41)}


def test_published_price_never_changes() -> None:
    assert rules.draw_price_cents("00", "task") == (1900, 2200)


# --- days ---------------------------------------------------------------------------------------


@given(days, days)
def test_business_date_is_calendar_date_unless_day_is_closed(occurred: date, first_open: date) -> None:
    business_date = rules.business_date(occurred, first_open)
    assert business_date >= first_open
    assert business_date == occurred or occurred < first_open == business_date


@pytest.mark.parametrize(
    ("kind", "is_corrected", "why"),
    [
        (EntryKind.FEE, True, "it is already reversed"),
        (EntryKind.PAYOUT, False, "it is a payout"),
        (EntryKind.FEE_REVERSAL, False, "it is a fee reversal"),
    ],
)
def test_reversal_refused_with_a_reason(kind: EntryKind, is_corrected: bool, why: str) -> None:
    with refused("not_correctable", 6, {"entry_id": "e1", "kind": kind.value}) as error:
        rules.reversal_of(kind, "e1", is_corrected=is_corrected)
    assert error.value.message == f"Entry e1 cannot be corrected: {why}."


@pytest.mark.parametrize("reason", ["a", "ä" * MAX_REASON_CHARACTERS, " trimmed " + " " * 400])
def test_reason_is_stripped_to_one_line(reason: str) -> None:
    assert rules.validate_reason(reason) == reason.strip()


@pytest.mark.parametrize("reason", ["", "  ", "a" * (MAX_REASON_CHARACTERS + 1), "two\nlines", "a\u202eb"])
def test_invalid_reason_is_refused(reason: str) -> None:
    with refused("invalid_reason", 2):
        rules.validate_reason(reason)


# --- which day may be closed --------------------------------------------------------------------


@pytest.mark.parametrize("first", [None, day(-9)])
def test_future_is_not_closed(first: date | None) -> None:
    details = {"date": "2026-03-03", "today": "2026-03-02"}
    with refused("future_date", 2, details) as error:
        calendar.validate_close_date(day(1), MONDAY, first)
    assert error.value.message == "2026-03-03 is in the future; today is 2026-03-02."
    assert error.value.hint == "Close today with `popug close-day`."


@pytest.mark.parametrize(
    ("first", "reason"), [(None, "The company has no days yet"), (day(-1), "The company's first day is 2026-03-01")]
)
def test_day_before_the_company_is_not_closed(first: date | None, reason: str) -> None:
    details = {"date": "2026-02-28", "first_day": first.isoformat() if first else None}
    with refused("before_first_day", 2, details) as error:
        calendar.validate_close_date(day(-2), MONDAY, first)
    assert error.value.message == f"2026-02-28 cannot be closed. {reason}."
    assert error.value.hint == "Run `popug income` to see the company's days."


@pytest.mark.parametrize("asked", [day(-3), day(-1), MONDAY])
def test_days_from_the_first_to_today_may_be_closed(asked: date) -> None:
    calendar.validate_close_date(asked, MONDAY, day(-3))


def test_missing_day_is_refused_with_the_zone() -> None:
    details = {"date": "2011-12-30", "time_zone": "Pacific/Apia"}
    with refused("no_such_day", 2, details) as error:
        raise calendar.nonexistent_day(date(2011, 12, 30), "Pacific/Apia")
    assert error.value.message == "The date 2011-12-30 does not exist in Pacific/Apia."
    assert error.value.hint == "Close the day before or the day after it."


def test_closing_more_than_a_month_needs_yes() -> None:
    calendar.require_confirmation(31, confirmed=False)
    calendar.require_confirmation(3_000_000, confirmed=True)
    with refused("needs_yes", 2, {"days": 32}) as error:
        calendar.require_confirmation(32, confirmed=False)
    assert error.value.message == "This would close 32 days at once, more than 31."
    assert error.value.hint == "Check the clock, then confirm with --yes."


# --- ranges -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        (None, None, (0, None)),
        (-3, None, (-3, None)),
        (3, None, (3, None)),
        (None, -3, (-3, -3)),
        (None, 3, (0, 3)),
        (-3, -1, (-3, -1)),
    ],
)
def test_statement_range_begins_today_and_has_no_end(
    first: int | None, last: int | None, found: tuple[int, int | None]
) -> None:
    given_first, given_last = None if first is None else day(first), None if last is None else day(last)
    end = date.max if found[1] is None else day(found[1])
    assert rules.statement_range(given_first, given_last, MONDAY) == (day(found[0]), end)


@pytest.mark.parametrize("amounts", [[], [300], [100, 200]])
def test_confirmed_payouts_may_be_paid(amounts: list[int]) -> None:
    rules.require_expected_payouts(300, amounts, [])


@pytest.mark.parametrize("amounts", [[0], [299], [300, 1]])
def test_other_payouts_than_confirmed_are_refused(amounts: list[int]) -> None:
    with refused("changed_meanwhile", 6, {"expected_cents": 300, "payouts_cents": sum(amounts)}) as error:
        rules.require_expected_payouts(300, amounts, [])
    assert "Nothing was closed." in error.value.message
    with refused("changed_meanwhile", 6) as error:
        rules.require_expected_payouts(300, amounts, [day(0), day(1)])
    assert "All days up to 2026-03-03 are closed now." in error.value.message


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        (None, None, (-6, 0)),
        (-30, None, (-30, 0)),
        (3, None, (3, 3)),
        (None, -3, (-9, -3)),
        (None, 3, (-3, 3)),
        (-3, -1, (-3, -1)),
    ],
)
def test_income_range_defaults_to_a_week(first: int | None, last: int | None, found: tuple[int, int]) -> None:
    given_first, given_last = None if first is None else day(first), None if last is None else day(last)
    assert rules.income_range(given_first, given_last, MONDAY) == (day(found[0]), day(found[1]))


@pytest.mark.parametrize("range_of", [rules.statement_range, rules.income_range])
def test_reversed_range_is_refused(range_of: Callable[..., object]) -> None:
    with refused("invalid_range", 2, {"from": "2026-03-03", "to": "2026-03-02"}) as error:
        range_of(day(1), day(0), MONDAY)
    assert error.value.message == "The range begins on 2026-03-03, after its end on 2026-03-02."
    assert error.value.hint == "Give the earlier date to --from and the later one to --to."


def test_ranges_reach_both_ends_of_the_calendar() -> None:
    assert rules.income_range(None, date.min, MONDAY) == (date.min, date.min)
    assert rules.statement_range(date.min, date.max, MONDAY) == (date.min, date.max)
    assert rules.day_before(date.min) is None
    assert rules.day_before(MONDAY) == day(-1)


# --- figures of open days -----------------------------------------------------------------------


@given(
    st.dictionaries(st.sampled_from("abc"), cents, min_size=3),
    st.dictionaries(
        st.tuples(st.integers(0, 5), st.sampled_from("abc")), st.tuples(st.integers(0, 4000), st.integers(0, 4000))
    ),
)
def test_in_red_count_is_taken_at_the_end_of_each_day(
    base: dict[str, int], moved: dict[tuple[int, str], tuple[int, int]]
) -> None:
    movements = [DayMovement(who, day(n), fee, reward, base[who]) for (n, who), (fee, reward) in sorted(moved.items())]
    before = sum(balance < 0 for balance in base.values())
    figures = dict(rules.day_by_day([day(n) for n in range(6)], rules.open_figures(movements, before), before))
    balances = dict(base)
    for n in range(6):
        todays = {who: sums for (on, who), sums in moved.items() if on == n}
        for who, (fee, reward) in todays.items():
            balances[who] += reward - fee
        assert figures[day(n)] == OpenFigures(
            sum(fee for fee, _ in todays.values()),
            sum(reward for _, reward in todays.values()),
            sum(balance < 0 for balance in balances.values()),
        )


def test_later_range_starts_with_earlier_in_red_count() -> None:
    moved = {day(0): OpenFigures(100, 0, 3), day(2): OpenFigures(0, 50, 2)}
    in_red_counts = [figures.in_red_count for _, figures in rules.day_by_day([day(1), day(2), day(3)], moved, 1)]
    assert in_red_counts == [3, 2, 2]
    assert [f.in_red_count for _, f in rules.day_by_day([day(-1)], moved, 1)] == [1]

"""Business dates, balances and closes: late, missed, in unusual zones; and answers as of a date."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from popug_cli.billing.closing import closed_day, dry_run
from popug_cli.billing.days import open_days
from popug_cli.billing.queries import export_day_ends, export_ledger, list_in_red
from popug_cli.bus.hash_chain import GENESIS_HASH
from popug_cli.kernel.errors import InvalidInput
from popug_cli.messages.base import Role
from popug_cli.messages.billing import (
    Balance,
    DayClosed,
    DayEnds,
    Debtor,
    EntryKind,
    EntryPosted,
    ExportDayEnds,
    ExportLedger,
    InRed,
    LedgerChunk,
    ListInRed,
    PayoutMade,
)
from popug_cli.messages.identity import UserRegistered
from popug_cli.messages.principal import OPERATOR, Principal
from tests.support.billing_company import BillingCompany, assigned, check_books
from tests.support.company import SetClock
from tests.support.error_checks import refused

TODAY = "2026-03-02"
TOMORROW = "2026-03-03"


@pytest.fixture
def house(tmp_path: Path) -> BillingCompany:
    house = BillingCompany(tmp_path / "home")
    house.register("kesha", "gosha")
    return house


def dates_of(house: BillingCompany) -> list[str]:
    return [row["business_date"] for row in house.rows("SELECT business_date FROM billing_entries ORDER BY position")]


# --- closing ------------------------------------------------------------------------------------


def test_close_pays_positive_balances_and_carries_debts(house: BillingCompany) -> None:
    earned, owed = house.task("kesha", completed=True), house.task("gosha")
    fee, reward = house.price(earned)
    (day,) = house.close(TODAY)
    assert [(p.username, p.amount_cents) for p in day.payouts] == [("kesha", reward - fee)]
    assert (day.closed, day.already_closed, day.paid_count, day.in_red_count) == (True, False, 1, 1)
    assert (day.fees_cents, day.rewards_cents) == (fee + house.price(owed).fee_cents, reward)
    assert (day.income_cents, day.payouts_cents) == (day.fees_cents - reward, reward - fee)
    assert (house.cents("kesha"), house.cents("gosha")) == (0, -house.price(owed).fee_cents)
    check_books(house.rows)


def test_close_publishes_entries_then_payouts_then_day_closed(house: BillingCompany) -> None:
    task_id = house.task("kesha", completed=True)
    before = house.rows("SELECT max(sequence) AS n FROM bus_log")[0]["n"]
    (day,) = house.close(TODAY)
    types = [row["type"] for row in house.rows(f"SELECT type FROM bus_log WHERE sequence > {before} ORDER BY sequence")]
    assert types == [EntryPosted.TYPE, PayoutMade.TYPE, DayClosed.TYPE]
    (payout,), entry = house.events(PayoutMade), house.events(EntryPosted)[-1]
    assert entry["causationid"] == payout["id"]
    links = house.rows("SELECT last_sequence, hash FROM bus_links ORDER BY last_sequence")
    assert (
        {row["last_sequence"]: row["hash"] for row in links}[before + 1] == payout["data"]["log_head"] != GENESIS_HASH
    )
    fee, reward = house.price(task_id)
    lines = [(line["kind"], line["signed_cents"], line["task"]["number"]) for line in payout["data"]["lines"]]
    assert lines == [("fee", -fee, 1), ("reward", reward, 1)]
    assert payout["data"]["opening_balance_cents"] == 0
    (closed_event,) = house.events(DayClosed)
    assert closed_event["data"]["payouts_cents"] == day.payouts_cents


def test_payslip_has_date_and_time_and_task_of_each_line(house: BillingCompany) -> None:
    task_id = house.task("kesha")
    house.set_local_time("2026-03-02 15:00")
    house.complete(task_id, "kesha")
    house.close(TODAY)
    payslip = house.events(PayoutMade)[0]["data"]
    assert (payslip["user_id"], payslip["business_date"]) == ("kesha", TODAY)
    assert [(line["occurred_at"], line["task"]) for line in payslip["lines"]] == [
        ("2026-03-02T09:00:00Z", {"number": 1, "title": "Task 1"}),
        ("2026-03-02T14:00:00Z", {"number": 1, "title": "Task 1"}),
    ]


def test_payouts_are_reported_by_name(house: BillingCompany) -> None:
    for user_id, name in (("1", "zoe"), ("2", "ada")):
        house.publish_and_catch_up(
            UserRegistered(user_id=user_id, username=name, email=f"{name}@example.com", role=Role.WORKER)
        )
        house.task(user_id, completed=True)
    (day,) = house.close(TODAY)
    assert [payout.username for payout in day.payouts] == ["ada", "zoe"]


def test_long_close_reports_progress(house: BillingCompany, monkeypatch: pytest.MonkeyPatch) -> None:
    house.register("mira")
    for name in ("kesha", "gosha", "mira"):
        house.task(name, completed=True)
    reported: list[tuple[str, int, int]] = []
    house.runtime = replace(house.runtime, progress=lambda *how_far: reported.append(how_far))
    monkeypatch.setattr("popug_cli.billing.closing.PAYEES_PER_BATCH", 2)
    house.close(TODAY)
    assert reported == [("Closing 2026-03-02", paid, 3) for paid in (0, 2, 3)]


def test_payslip_brings_yesterdays_debt_forward(house: BillingCompany) -> None:
    debt = house.price(task_id := house.task("kesha")).fee_cents
    house.close(TODAY)
    house.set_local_time("2026-03-03 10:00")
    house.complete(task_id, "kesha")
    house.close(TOMORROW)
    (payout,) = house.events(PayoutMade)
    assert payout["data"]["opening_balance_cents"] == -debt
    assert payout["data"]["amount_cents"] == house.price(task_id).reward_cents - debt


def test_payslip_omits_an_unknown_task(house: BillingCompany) -> None:
    house.publish_and_catch_up(assigned("a", "kesha"))
    house.complete("a", "kesha")
    house.close(TODAY)
    (payout,) = house.events(PayoutMade)
    assert all("task" not in line or line["task"] is None for line in payout["data"]["lines"])


def test_empty_day_is_closed_with_empty_figures(house: BillingCompany) -> None:
    (day,) = house.close(TODAY)
    assert (day.fees_cents, day.rewards_cents, day.payouts_cents, day.paid_count, day.in_red_count) == (0,) * 5
    assert day.payouts == []


def test_new_company_has_no_day_to_close(tmp_path: Path) -> None:
    house = BillingCompany(tmp_path / "home")
    assert house.close(TODAY) == []
    assert house.income().days == []
    with house.runtime.reading(OPERATOR) as context:
        assert export_ledger(ExportLedger(after=0, limit=10), context) == LedgerChunk(0, [])
        assert export_day_ends(ExportDayEnds(up_to=0), context) == DayEnds([], None)
        assert open_days(date(2026, 3, 2), context) == []


def test_closed_day_is_recorded(house: BillingCompany) -> None:
    house.task("kesha", completed=True)
    (day,) = house.close(TODAY)
    assert house.close(TODAY) == []
    with house.runtime.reading(OPERATOR) as context:
        recorded = closed_day(date(2026, 3, 2), context)
        assert closed_day(date(2026, 3, 3), context) is None
    assert recorded is not None
    assert (recorded.already_closed, recorded.payouts, recorded.income_cents) == (True, day.payouts, day.income_cents)
    assert (recorded.paid_count, house.income().days[0].paid_count) == (1, 1)


def test_missed_days_are_closed_each_as_itself(house: BillingCompany) -> None:
    rewards = []
    for offset in range(3):
        house.set_local_time(f"2026-03-0{2 + offset} 10:00")
        fee, reward = house.price(house.task("kesha", completed=True))
        rewards.append(reward - fee)
    house.set_local_time("2026-03-06 10:00")
    days = house.close("2026-03-06")
    assert [str(day.business_date) for day in days] == [f"2026-03-0{n}" for n in range(2, 7)]
    assert [day.payouts_cents for day in days] == [*rewards, 0, 0]
    check_books(house.rows)


def test_late_close_pays_balance_at_end_of_that_day(house: BillingCompany) -> None:
    fee, reward = house.price(house.task("kesha", completed=True))
    house.set_local_time("2026-03-03 00:10")
    today = house.price(house.task("kesha"))
    (day,) = house.close(TODAY)
    assert day.payouts_cents == reward - fee
    assert house.cents("kesha") == -today.fee_cents
    assert house.cents("kesha", as_of_date=date(2026, 3, 2)) == 0
    lines = house.statement("kesha", TODAY, TOMORROW).entries
    assert [(str(e.business_date), e.kind, e.balance_cents) for e in lines[-2:]] == [
        (TODAY, EntryKind.PAYOUT, 0),
        (TOMORROW, EntryKind.FEE, -today.fee_cents),
    ]
    check_books(house.rows)


def test_entries_after_todays_close_are_dated_tomorrow(house: BillingCompany) -> None:
    house.close(TODAY)
    task_id = house.task("kesha", completed=True)
    fee, reward = house.price(task_id)
    assert dates_of(house) == [TOMORROW, TOMORROW]
    assert house.balance("kesha") == Balance("kesha", reward - fee, reward, date(2026, 3, 3), date(2026, 3, 2))
    assert house.balance("kesha", as_of_date=date(2026, 3, 2)).earned_today_cents == 0
    assert house.balance("kesha", as_of_date=date(2026, 3, 3)).earned_today_cents == reward
    assert house.statement("kesha", TODAY, TODAY).entries == []
    assert house.statement("KESHA", TODAY, TODAY).username == "kesha"
    (opened,) = house.income(from_date=date(2026, 3, 3), to_date=date(2026, 3, 9)).days
    assert (opened.fees_cents, opened.rewards_cents, opened.payouts_cents, opened.paid_count) == (fee, reward, 0, 0)
    assert [
        (str(day.business_date), day.closed)
        for day in house.income(from_date=date(2026, 3, 1), to_date=date(2026, 3, 9)).days
    ] == [
        (TODAY, True),
        (TOMORROW, False),
    ]


def test_dry_run_shows_days_and_leaves_no_trace(house: BillingCompany) -> None:
    house.task("kesha", completed=True)
    house.set_local_time("2026-03-03 10:00")
    before = (house.ledger(), house.rows("SELECT * FROM bus_log"), house.rows("SELECT * FROM bus_links"))
    with house.runtime.writing(OPERATOR) as context:
        rehearsed = dry_run(date(2026, 3, 3), context)
    assert (house.ledger(), house.rows("SELECT * FROM bus_log"), house.rows("SELECT * FROM bus_links")) == before
    days = house.close(TOMORROW)
    assert [(day.payouts, day.income_cents) for day in rehearsed] == [(day.payouts, day.income_cents) for day in days]
    assert {(day.closed, day.already_closed) for day in rehearsed} == {(False, False)}


def test_user_without_a_known_name_is_paid_by_id(tmp_path: Path) -> None:
    house = BillingCompany(tmp_path / "home")
    house.publish_and_catch_up(assigned("a", "kesha"))
    house.complete("a", "kesha")
    (day,) = house.close(TODAY)
    assert [payout.username for payout in day.payouts] == ["kesha"]


# --- zones --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "midnight"),
    [
        ("Europe/Berlin", "2026-03-29"),
        ("Europe/Berlin", "2026-10-25"),
        ("Africa/Cairo", "2024-04-26"),
        ("Pacific/Auckland", "2026-04-05"),
        ("America/St_Johns", "2026-11-01"),
    ],
)
def test_days_of_23_and_25_hours_start_at_local_midnight(tmp_path: Path, zone: str, midnight: str) -> None:
    clock = SetClock()
    house = BillingCompany(tmp_path / "home", zone, clock)
    day = date.fromisoformat(midnight)
    before, after = house.runtime.calendar.previous_day(day), house.runtime.calendar.next_day(day)
    house.set_local_time(f"{before} 12:00")
    house.register("kesha")
    for moment in (f"{before} 23:59:59", f"{day} 01:30", f"{day} 23:59:59", f"{after} 00:00"):
        house.set_local_time(moment)
        house.task("kesha")
    assert dates_of(house) == [str(before), midnight, midnight, str(after)]
    assert [str(closed.business_date) for closed in house.close(str(after))] == [str(before), midnight, str(after)]


def test_date_missing_in_the_zone_is_not_a_day(tmp_path: Path) -> None:
    house = BillingCompany(tmp_path / "home", "Pacific/Apia")
    house.set_local_time("2011-12-29 12:00")
    house.register("kesha")
    house.close("2011-12-29")
    house.task("kesha")
    house.set_local_time("2011-12-31 08:00")
    house.task("kesha")
    assert dates_of(house) == ["2011-12-31", "2011-12-31"]
    assert [str(day.business_date) for day in house.close("2011-12-31")] == ["2011-12-31"]
    shown = house.income(from_date=date(2011, 12, 1), to_date=date(2012, 1, 9)).days
    assert [str(day.business_date) for day in shown] == ["2011-12-29", "2011-12-31"]


# --- queries ------------------------------------------------------------------------------------


def test_balance_finds_username_in_any_letter_case(house: BillingCompany) -> None:
    assert house.balance("KESHA").username == "kesha"
    for name in ("nobody", OPERATOR.username):
        with refused("user_not_found", 3, {"username": name}):
            house.balance(name)


def test_own_account_exists_before_billing_consumes_user(house: BillingCompany) -> None:
    from popug_cli.billing.queries import get_balance
    from popug_cli.messages.billing import GetBalance

    with house.runtime.reading(Principal("mira", "m-1", Role.MANAGER)) as context:
        assert get_balance(GetBalance(), context) == Balance("mira", 0, 0, date(2026, 3, 2), date(2026, 3, 2))
        with refused("user_not_found", 3):
            get_balance(GetBalance(username="nobody"), context)
    with house.runtime.reading(Principal("kesha", "kesha", Role.WORKER)) as context:
        assert get_balance(GetBalance(), context).username == "kesha"


def test_entries_of_a_task_are_limited_to_visible_ones(house: BillingCompany) -> None:
    house.task("kesha", completed=True)
    task_id = house.task("kesha")
    house.publish_and_catch_up(assigned(task_id, "gosha"))
    house.complete(task_id, "gosha")
    house.close(TODAY)
    entries = house.task_entries(task_id)
    assert [entry.kind for entry in entries] == [EntryKind.FEE, EntryKind.FEE, EntryKind.REWARD]
    statements = {
        entry.entry_id: entry for name in ("kesha", "gosha") for entry in house.statement(name, TODAY, TODAY).entries
    }
    assert entries == [statements[entry.entry_id] for entry in entries]
    worker, accountant = Principal("kesha", "kesha", Role.WORKER), Principal("asya", "asya", Role.ACCOUNTANT)
    assert house.task_entries(task_id, asker=worker) == entries[:1]
    assert house.task_entries(task_id, asker=accountant) == entries
    assert house.task_entries(task_id, "gosha", accountant) == entries[1:]


def test_statement_with_reversed_range_is_refused(house: BillingCompany) -> None:
    with pytest.raises(InvalidInput):
        house.statement("kesha", TOMORROW, TODAY)


def test_ranges_outside_the_company_are_empty(house: BillingCompany) -> None:
    house.task("kesha")
    owed = -house.price("task-1").fee_cents
    old, new = (
        house.statement("kesha", "0001-01-01", "0001-01-02"),
        house.statement("kesha", "9999-01-01", "9999-12-31"),
    )
    assert (old.entries, old.opening_balance_cents, old.closing_balance_cents) == ([], 0, 0)
    assert (new.entries, new.opening_balance_cents, new.closing_balance_cents) == ([], owed, owed)
    assert house.income(from_date=date.min, to_date=date(2026, 3, 1)).days == []
    assert len(house.income(from_date=date.min, to_date=date.max).days) == 1
    assert house.income(from_date=date(9999, 1, 1), to_date=date.max).days == []


def test_in_red_count_of_open_day_is_taken_at_its_end(house: BillingCompany) -> None:
    first = house.task("kesha")
    house.task("gosha")
    house.close(TODAY)
    house.set_local_time("2026-03-04 10:00")
    house.complete(first, "kesha")
    days = house.income().days
    assert [(str(day.business_date), day.in_red_count) for day in days] == [
        (TODAY, 2),
        (TOMORROW, 2),
        ("2026-03-04", 1),
    ]
    assert [day.in_red_count for day in house.income(from_date=date(2026, 3, 4)).days] == [1]
    assert [day.in_red_count for day in house.income(to_date=date(2026, 3, 2)).days] == [2]


def test_in_red_count_of_open_days_starts_at_last_close(house: BillingCompany) -> None:
    def in_red() -> list[int]:
        counts = [day.in_red_count for day in house.income().days]
        assert [day.in_red_count for day in house.income(as_of_time=house.clock.now()).days] == counts
        return counts

    for _ in range(5):
        house.task("kesha", completed=True)
    assert in_red() == [0]
    house.task("gosha")
    assert in_red() == [1]
    house.close(TODAY)
    house.set_local_time("2026-03-03 10:00")
    house.task("kesha")
    assert in_red() == [1, 2]


def test_largest_debts_come_first(house: BillingCompany) -> None:
    house.register("mira")
    for name in ("kesha", "gosha", "gosha", "gosha"):
        house.task(name)
    for _ in range(5):
        house.task("mira", completed=True)
    debtors = [Debtor(name, house.cents(name)) for name in ("gosha", "kesha")]
    with house.runtime.reading(OPERATOR) as context:
        assert list_in_red(ListInRed(), context) == InRed(debtors, 2)
        assert list_in_red(ListInRed(limit=1), context) == InRed(debtors[:1], 2)


def test_income_as_of_date_has_days_up_to_it(house: BillingCompany) -> None:
    house.task("kesha")
    house.set_local_time("2026-03-04 10:00")
    house.task("kesha")
    shown = house.income(as_of_date=date(2026, 3, 3))
    assert [str(day.business_date) for day in shown.days] == [TODAY, TOMORROW]
    assert shown.total_income_cents == house.price("task-1").fee_cents


def test_late_registration_takes_over_the_account(tmp_path: Path) -> None:
    house = BillingCompany(tmp_path / "home")
    house.publish_and_catch_up(assigned("a", "u1"))
    house.publish_and_catch_up(UserRegistered(user_id="u1", username="kesha", email="k@example.com", role=Role.WORKER))
    assert house.cents("kesha") == -house.price("a").fee_cents

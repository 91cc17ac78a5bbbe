"""Billing on a file: one price for a task, one entry for an event, in any batches and with redelivery."""

import random
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from popug_cli.billing.balances import Account, find_account
from popug_cli.billing.consumers import consume
from popug_cli.billing.ledger import NewEntry, post
from popug_cli.billing.rules import draw_price_cents
from popug_cli.kernel.draws import ALGORITHM
from popug_cli.kernel.errors import IntegrityViolation
from popug_cli.messages.base import Event
from popug_cli.messages.billing import EntryKind, EntryPosted, TaskPriced
from popug_cli.messages.envelope import decode
from popug_cli.messages.principal import OPERATOR, Principal
from popug_cli.messages.tasks import TaskAssigned, TaskCompleted, TaskCreatedV1
from tests.support.billing_company import BillingCompany, assigned, check_books, completed_by, created
from tests.support.error_checks import refused


@pytest.fixture
def house(tmp_path: Path) -> BillingCompany:
    house = BillingCompany(tmp_path / "home")
    house.register("kesha", "gosha")
    return house


# --- prices -------------------------------------------------------------------------------------


def test_task_is_priced_once_by_a_draw_that_anyone_can_repeat(house: BillingCompany) -> None:
    task_id = house.task("kesha")
    (event,) = house.events(TaskPriced)
    draw = event["data"]["draw"]
    assert (event["data"]["fee_cents"], event["data"]["reward_cents"]) == house.price(task_id)
    assert draw["algorithm"] == ALGORITHM
    assert draw_price_cents(draw["seed"], task_id) == house.price(task_id)
    house.publish_and_catch_up(assigned(task_id, "gosha"), completed_by(task_id, "gosha", house.clock.now()))
    assert len(house.events(TaskPriced)) == 1


def test_price_is_caused_by_first_event_of_the_task(house: BillingCompany) -> None:
    first, _, second = house.publish(created("a", 1, "kesha"), assigned("a", "kesha"), assigned("b", "kesha"))
    house.catch_up()
    assert [event["causationid"] for event in house.events(TaskPriced)] == [first, second]


def test_assignment_may_be_consumed_before_the_task(house: BillingCompany) -> None:
    house.publish_and_catch_up(assigned("a", "kesha"))
    price = house.price("a")
    (entry,) = house.task_entries("a")
    assert (entry.kind, entry.amount_cents, entry.task) == (EntryKind.FEE, price.fee_cents, None)
    house.publish_and_catch_up(created("a", 7, "kesha"))
    (entry,) = house.task_entries("a")
    assert entry.task is not None
    assert (entry.task.number, entry.task.title, house.price("a")) == (7, "Task 7", price)


def test_task_of_the_first_version_is_charged_like_any(house: BillingCompany) -> None:
    old = TaskCreatedV1(task_id="a", number=1, title="[POPUG-7] Feed", creator_id="kesha", assignee_id="kesha")
    house.publish_and_catch_up(old, assigned("a", "kesha"))
    (entry,) = house.task_entries("a")
    assert entry.task is not None
    assert entry.task.title == "Feed"


# --- entries ------------------------------------------------------------------------------------


def test_assignment_charges_fee_and_completion_pays_reward(house: BillingCompany) -> None:
    task_id = house.task("kesha", completed=True)
    fee, reward = house.price(task_id)
    rows = house.rows("SELECT * FROM billing_entries ORDER BY position")
    assert [(r["kind"], r["debit_account"], r["credit_account"], r["amount_cents"]) for r in rows] == [
        ("fee", "kesha", "management", fee),
        ("reward", "management", "kesha", reward),
    ]
    assert (house.cents("kesha"), house.cents("gosha")) == (reward - fee, 0)
    check_books(house.rows)


def test_repeated_assignment_is_charged_again(house: BillingCompany) -> None:
    task_id = house.task("kesha")
    house.publish_and_catch_up(assigned(task_id, "kesha"))
    house.publish_and_catch_up(assigned(task_id, "gosha"), assigned(task_id, "kesha"))
    fee = house.price(task_id).fee_cents
    assert (house.cents("kesha"), house.cents("gosha")) == (-3 * fee, -fee)
    check_books(house.rows)


def test_entry_is_published_with_its_cause(house: BillingCompany) -> None:
    house.task("kesha", completed=True)
    rows = house.rows("SELECT * FROM billing_entries ORDER BY position")
    events = house.events(EntryPosted)
    assert [event["causationid"] for event in events] == [row["event_id"] for row in rows]
    assert [event["subject"] for event in events] == ["kesha", "kesha"]
    fields = ("entry_id", "kind", "amount_cents", "business_date", "task_id")
    assert [[event["data"][name] for name in fields] for event in events] == [[r[n] for n in fields] for r in rows]


def test_entry_is_published_with_the_actor_of_its_cause(house: BillingCompany) -> None:
    house.task("kesha", completed=True)
    causes = {event["id"]: event for kind in (TaskAssigned, TaskCompleted) for event in house.events(kind)}
    for posted in house.events(EntryPosted):
        cause = causes[posted["causationid"]]
        assert (posted["actor"], posted["correlationid"]) == (cause["actor"], cause["correlationid"])


def test_batch_may_have_a_later_day_first(house: BillingCompany) -> None:
    names = [f"popug-{n}" for n in range(10)]
    house.register(*names)
    for moment in ("2026-03-04 10:00", "2026-03-03 10:00"):
        house.set_local_time(moment)
        house.publish(*(assigned(f"{name} {moment}", name) for name in names))
    house.catch_up()
    check_books(house.rows)
    assert {house.cents(name, as_of_date=date(2026, 3, 3)) for name in names} == {
        -house.price(f"{name} 2026-03-03 10:00").fee_cents for name in names
    }


def test_user_without_registration_event_is_charged(tmp_path: Path) -> None:
    house = BillingCompany(tmp_path / "home")
    house.publish_and_catch_up(assigned("a", "kesha"))
    check_books(house.rows)
    fee = house.price("a").fee_cents
    house.register("kesha")
    assert house.cents("kesha") == -fee


# --- redelivery ---------------------------------------------------------------------------------


def redeliver(house: BillingCompany, *, forget: bool) -> None:
    house.execute("UPDATE bus_cursors SET position = 0")
    if forget:
        house.execute("DELETE FROM bus_inbox")
    report = house.catch_up()
    assert (report.failures, report.errors) == ({}, [])


@pytest.mark.parametrize("forget", [False, True], ids=["marked-in-the-inbox", "forgotten-by-the-inbox"])
def test_redelivery_changes_nothing(house: BillingCompany, forget: bool) -> None:
    house.task("kesha", completed=True)
    house.publish_and_catch_up(assigned(house.task("gosha"), "kesha"))
    before, log = house.ledger(), house.rows("SELECT sequence FROM bus_log")
    redeliver(house, forget=forget)
    assert (house.ledger(), house.rows("SELECT sequence FROM bus_log")) == (before, log)


def test_redelivery_after_a_close_changes_nothing(house: BillingCompany) -> None:
    house.task("kesha", completed=True)
    house.close("2026-03-02")
    before = house.ledger()
    redeliver(house, forget=True)
    assert house.ledger() == before


def story(house: BillingCompany) -> list[Event]:
    """Return assignments and completions of twenty tasks of two users, in order for each task."""
    chance, people, events = random.Random(5), ("kesha", "gosha"), list[Event]()
    for number in range(1, 21):
        task_id = f"task-{number}"
        holders = [chance.choice(people) for _ in range(chance.randint(1, 4))]
        events += [created(task_id, number, holders[0]), *(assigned(task_id, who) for who in holders)]
        if chance.random() < 0.6:
            events.append(completed_by(task_id, holders[-1], house.clock.now()))
    return events


def test_one_batch_does_what_single_events_do(house: BillingCompany, tmp_path: Path) -> None:
    single = BillingCompany(tmp_path / "other")
    single.register("kesha", "gosha")
    house.publish_and_catch_up(*story(house))
    for event in story(single):
        single.publish_and_catch_up(event)
    counts = "SELECT employee_id, kind, task_id, count(*) AS n FROM billing_entries GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    assert house.rows(counts) == single.rows(counts)
    for counting_house in (house, single):
        check_books(counting_house.rows)
        causes = counting_house.rows(
            "SELECT l.sequence FROM billing_entries e JOIN bus_log l ON l.id = e.event_id ORDER BY position"
        )
        assert causes == sorted(causes, key=lambda row: row["sequence"])


def test_batch_with_a_bad_event_is_charged_without_it(house: BillingCompany) -> None:
    house.publish(created("a", 1, "kesha"), assigned("a", "kesha"))
    bad = '{"id":"bad","type":"popug.tasks.task_assigned.v1","subject":"b","time":"2026-03-02T09:00:00Z","data":{}}'
    house.execute(f"INSERT INTO bus_log (envelope) VALUES ('{bad}')")
    house.publish(created("c", 3, "gosha"), assigned("c", "gosha"))
    assert house.catch_up().failures == {"billing": 1}
    assert (house.cents("kesha"), house.cents("gosha")) == (-house.price("a").fee_cents, -house.price("c").fee_cents)
    check_books(house.rows)


# --- constraints of the database ----------------------------------------------------------------

INSERT = (
    "INSERT INTO billing_entries (entry_id, event_id, employee_id, amount_cents, kind, business_date, occurred_at,"
    " recorded_at, task_id, corrects) SELECT {entry}, {event}, {employee}, {amount}, {kind}, business_date,"
    " occurred_at, recorded_at, {task}, {corrects}"
    " FROM billing_entries LIMIT 1"
)
SOUND = {
    "entry": "'new'", "event": "'new'", "employee": "employee_id", "amount": "1", "kind": "kind",
    "task": "task_id", "corrects": "NULL",
}  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"entry": "entry_id"},
        {"event": "event_id"},
        {"amount": "0"},
        {"amount": "-1"},
        {"kind": "'bonus'"},
        {"kind": "'payout'"},
        {"task": "NULL"},
        {"task": "'unknown'"},
        {"employee": "'nobody'"},
        {"corrects": "entry_id"},
    ],
    ids=str,
)
def test_invalid_entry_is_refused(house: BillingCompany, wrong: dict[str, str]) -> None:
    house.task("kesha")
    with pytest.raises(IntegrityViolation, match="IntegrityError"):
        house.execute(INSERT.format(**SOUND | wrong))


def test_valid_form_of_the_same_entry_is_accepted(house: BillingCompany) -> None:
    house.task("kesha")
    house.execute(INSERT.format(**SOUND))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE billing_entries SET amount_cents = 1",
        "DELETE FROM billing_entries",
        "INSERT OR REPLACE INTO billing_entries (entry_id, event_id, employee_id, amount_cents, kind, business_date,"
        " occurred_at, recorded_at, task_id, corrects) SELECT entry_id, event_id, employee_id, amount_cents, kind,"
        " business_date, occurred_at, recorded_at, task_id, corrects FROM billing_entries",
        "UPDATE billing_tasks SET fee_cents = 1000",
        "DELETE FROM billing_tasks",
        "UPDATE billing_days SET payouts_cents = 0",
        "DELETE FROM billing_days",
        "UPDATE billing_account_days SET balance_cents = 1",
        "INSERT INTO billing_account_days VALUES ('gosha', '2026-03-02', 0, 0, 0, 0)",
        "INSERT INTO billing_company VALUES (2, '2026-03-02')",
    ],
)
def test_history_cannot_be_rewritten(house: BillingCompany, statement: str) -> None:
    house.task("kesha", completed=True)
    house.close("2026-03-02")
    with pytest.raises(IntegrityViolation, match="IntegrityError"):
        house.execute(statement)


def test_second_payout_of_a_day_is_refused(house: BillingCompany) -> None:
    with house.runtime.writing(OPERATOR) as context:
        day = context.calendar.date_of(context.now)
        post([NewEntry("x", "kesha", EntryKind.PAYOUT, 100, day, context.now)], context)
    twice = [NewEntry("y", "kesha", EntryKind.PAYOUT, 100, day, house.clock.now())]
    with pytest.raises(IntegrityViolation, match="IntegrityError"), house.runtime.writing(OPERATOR) as context:
        post(twice, context)


# --- the calendar -------------------------------------------------------------------------------


def test_first_day_is_local_date_of_the_first_event(tmp_path: Path) -> None:
    house = BillingCompany(tmp_path / "home", "Pacific/Auckland")
    house.set_local_time("2026-03-03 00:30")
    house.register("kesha")
    assert house.rows("SELECT first_day FROM billing_company") == [{"first_day": "2026-03-03"}]


def test_entry_is_never_dated_before_the_first_day(house: BillingCompany) -> None:
    house.clock.advance(days=-5)
    house.task("kesha")
    assert {row["business_date"] for row in house.rows("SELECT * FROM billing_entries")} == {"2026-03-02"}


def test_reversals_reduce_the_figures_of_the_day(house: BillingCompany) -> None:
    task_id = house.task("kesha", completed=True)
    fee, reward = house.price(task_id)
    entries = house.rows("SELECT entry_id FROM billing_entries ORDER BY position")
    kinds = ((EntryKind.FEE_REVERSAL, fee), (EntryKind.REWARD_REVERSAL, reward))
    with house.runtime.writing(OPERATOR) as context:
        day = context.calendar.date_of(context.now)
        reversals = [
            NewEntry(f"r{n}", "kesha", kind, cents, day, context.now, task_id, entries[n]["entry_id"])
            for n, (kind, cents) in enumerate(kinds)
        ]
        post(reversals, context)
    assert (house.cents("kesha"), house.balance("kesha").earned_today_cents) == (0, 0)
    assert house.income().total_income_cents == 0
    later = house.clock.now() + timedelta(hours=1)
    assert house.balance("kesha", as_of_time=later) == house.balance("kesha")
    assert house.income(as_of_time=later).days == house.income().days
    check_books(house.rows)


def test_batch_of_one_event_twice_is_one_entry(house: BillingCompany) -> None:
    house.publish(assigned("a", "kesha"))
    row: dict[str, Any] = house.rows("SELECT sequence, type, envelope FROM bus_log ORDER BY sequence DESC LIMIT 1")[0]
    event = decode(*row.values())
    with house.runtime.writing(OPERATOR) as context:
        consume([event], context)
        consume([event], context)
    assert len(house.task_entries("a")) == 1


def test_entry_is_reversed_once(house: BillingCompany) -> None:
    fee = house.price(task_id := house.task("kesha")).fee_cents
    (entry,) = house.rows("SELECT entry_id FROM billing_entries")

    def reverse(event_id: str) -> None:
        with house.runtime.writing(OPERATOR) as context:
            day = context.calendar.date_of(context.now)
            kind, corrects = EntryKind.FEE_REVERSAL, entry["entry_id"]
            post([NewEntry(event_id, "kesha", kind, fee, day, context.now, task_id, corrects)], context)

    reverse("first")
    with pytest.raises(IntegrityViolation, match="IntegrityError"):
        reverse("second")
    assert house.cents("kesha") == 0
    check_books(house.rows)


# --- accounts -------------------------------------------------------------------------------------


def test_own_account_is_found_before_billing_consumes_user(house: BillingCompany) -> None:
    newcomer = Principal("vera", user_id="v1")
    with house.runtime.reading(newcomer) as context:
        assert find_account(None, context) == Account("v1", "vera", 0)
        assert find_account("Vera", context) == Account("v1", "vera", 0)
        with refused("user_not_found", 3, {"username": "nobody"}):
            find_account("nobody", context)

"""Billing enters an event of tasks at the date that the event carries, or on the first open day."""

import json
from datetime import date, timedelta
from pathlib import Path

import pytest

from popug_cli.billing.commands import correct_entry
from popug_cli.messages.billing import CorrectEntry
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import DayEnded
from tests.support.billing_company import BillingCompany, assigned, created

MONDAY, TUESDAY, WEDNESDAY = date(2026, 3, 2), date(2026, 3, 3), date(2026, 3, 4)


@pytest.fixture
def house(tmp_path: Path) -> BillingCompany:
    house = BillingCompany(tmp_path / "home")
    house.register("kesha")
    return house


def assign(house: BillingCompany, counts_for: date | None) -> None:
    """Publish a new task and its assignment, which count for a date."""
    house.tasks += 1
    task_id = f"task-{house.tasks}"
    with house.runtime.writing(OPERATOR) as context:
        context.events.publish(created(task_id, house.tasks, "kesha"), business_date=counts_for)
        context.events.publish(assigned(task_id, "kesha"), business_date=counts_for)


def dates(house: BillingCompany) -> list[str]:
    statement = "SELECT business_date FROM billing_entries WHERE kind <> 'payout' ORDER BY position"
    return [row["business_date"] for row in house.rows(statement)]


def end(house: BillingCompany, day: date) -> None:
    with house.runtime.writing(OPERATOR) as context:
        context.events.publish(DayEnded(business_date=day), business_date=day)


@pytest.mark.parametrize(
    ("counts_for", "closed", "expected"),
    [
        (MONDAY, "", MONDAY),
        (TUESDAY, "", TUESDAY),
        (None, "", MONDAY),
        (MONDAY, "2026-03-02", TUESDAY),
        (None, "2026-03-02", TUESDAY),
        (WEDNESDAY, "2026-03-02", WEDNESDAY),
        (MONDAY - timedelta(days=1), "", MONDAY),
    ],
)
def test_entry_has_the_date_of_its_event(
    house: BillingCompany, counts_for: date | None, closed: str, expected: date
) -> None:
    if closed:
        house.close(closed)
    assign(house, counts_for)
    house.catch_up()
    assert dates(house) == [expected.isoformat()]


@pytest.mark.parametrize("counts_for", ["tomorrow", "2026-02-30", 20260302, "2026-03-02T10:00:00Z"])
def test_invalid_date_sets_only_its_event_aside(house: BillingCompany, counts_for: object) -> None:
    assign(house, MONDAY)
    with house.runtime.writing(OPERATOR) as context:
        envelope = json.loads(context.log.after(0, ["popug.tasks.task_assigned.v1"], 1)[0][2])
        position = context.log.last_position() + 1
        envelope |= {"id": "odd", "subject": "odd", "sequence": str(position), "businessdate": counts_for}
        context.connection.insert_many(
            "INSERT INTO bus_log (sequence, envelope) VALUES (?, ?)", [(position, json.dumps(envelope))]
        )
    assign(house, TUESDAY)
    assert house.catch_up().failures == {"billing": 1}
    assert dates(house) == ["2026-03-02", "2026-03-03"]
    (row,) = house.rows("SELECT subject, error FROM bus_set_aside")
    assert row["subject"] == "odd"
    assert "businessdate" in row["error"]


def test_ended_day_is_not_the_open_business_date(house: BillingCompany) -> None:
    before = house.clock.now()
    house.clock.advance(hours=1)
    end(house, MONDAY)
    assert house.balance("kesha").business_date == MONDAY
    house.catch_up()
    assert house.balance("kesha").business_date == TUESDAY
    assert house.balance("kesha", as_of_time=before).business_date == MONDAY
    assert house.balance("kesha", as_of_time=house.clock.now()).business_date == TUESDAY


def test_end_does_not_move_what_tasks_did_before_it(house: BillingCompany) -> None:
    assign(house, MONDAY)
    end(house, MONDAY)
    assign(house, TUESDAY)
    house.catch_up()
    assert dates(house) == ["2026-03-02", "2026-03-03"]


@pytest.mark.parametrize(
    ("dated", "is_ended", "days_back", "expected"),
    [
        (MONDAY, False, 0, MONDAY),
        (MONDAY, True, 0, TUESDAY),
        (WEDNESDAY, True, 0, WEDNESDAY),
        (WEDNESDAY, False, 0, WEDNESDAY),
        (MONDAY, False, 1, MONDAY),
    ],
)
def test_reversal_is_dated_after_ended_days_and_its_entry(
    house: BillingCompany, dated: date, is_ended: bool, days_back: int, expected: date
) -> None:
    assign(house, dated)
    if is_ended:
        end(house, MONDAY)
    house.catch_up()
    house.clock.advance(days=-days_back)
    (entry,) = house.rows("SELECT entry_id FROM billing_entries")
    with house.runtime.writing(OPERATOR) as context:
        reversal = correct_entry(CorrectEntry(entry_id=entry["entry_id"], reason="a mistake"), context)
    assert reversal.business_date == expected

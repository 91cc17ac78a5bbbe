"""A close ends the day first: events of tasks say for which date they count."""

from datetime import timedelta

import pytest

from tests.support.installed_company import Company, Json


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Company:
    """A company that closed its first day at 18:00; on each side of the close, two tasks were added and completed."""
    company = Company(tmp_path_factory.mktemp("closed"), "Europe/Berlin")
    company.it_is("2031-06-10 12:00")
    company.init("ada")
    company.hire("kesha", "worker")
    add_and_complete(company, 1, 2)
    company.it_is("2031-06-10 18:00")
    company.ask("ada", "close-day", "--date", "today", "--yes")
    add_and_complete(company, 3, 4)
    return company


def add_and_complete(company: Company, *numbers: int) -> None:
    """Add and complete tasks; two, since one reward may be as small as its fee, so that nothing is paid."""
    for number in numbers:
        company.add_task("kesha", f"Task {number}")
        company.complete("kesha", number)


def events(company: Company) -> list[Json]:
    answer: list[Json] = company.ask("ada", "events", "list", "--limit", "1000")["events"]
    return answer


def test_end_comes_before_payouts_and_close(closed: Company) -> None:
    names = [event["type"].split(".")[2] for event in events(closed)]
    close = names[names.index("day_ended") : names.index("day_closed") + 1]
    assert close == ["day_ended", "entry_posted", "payout_made", "day_closed"]
    (end,) = closed.ask("ada", "events", "list", "--type", "day_ended")["events"]
    assert (end["subject"], end["data"]) == ("2031-06-10", {"business_date": "2031-06-10"})
    assert (end["actor"], end["source"]) == ("ada", "/popug/tasks")


def test_events_of_tasks_count_for_the_next_day_after_the_end(closed: Company) -> None:
    listed = events(closed)
    (end,) = [int(event["sequence"]) for event in listed if event["type"] == "popug.tasks.day_ended.v1"]
    for event in listed:
        is_later = int(event["sequence"]) > end
        expected = ("2031-06-11" if is_later else "2031-06-10") if event["source"] == "/popug/tasks" else None
        assert event.get("businessdate") == expected, event
    statement = closed.statement("kesha", "kesha", "--from", "2031-06-10", "--to", "2031-06-11")
    dates = [entry["business_date"] for entry in statement["entries"]]
    assert dates == ["2031-06-10"] * 5 + ["2031-06-11"] * 4


def test_trial_of_a_close_ends_no_day(closed: Company) -> None:
    closed.it_is("2031-06-11 09:00")
    (day,) = closed.ask("ada", "close-day", "--date", "today", "--dry-run")["days"]
    assert (day["business_date"], day["paid_count"]) == ("2031-06-11", 1)
    assert len(closed.ask("ada", "events", "list", "--type", "day_ended")["events"]) == 1
    assert closed.add_task("kesha", "Three")["task_id"]
    assert events(closed)[-1]["time"].startswith("2031-06-11")
    assert [event["businessdate"] for event in events(closed) if event["source"] == "/popug/tasks"][-1] == "2031-06-11"


def test_reversal_is_never_dated_before_its_entry(closed: Company) -> None:
    closed.it_is("2031-06-13 10:00")
    closed.add_task("kesha", "Four")
    (entry,) = closed.statement("kesha", "kesha", "--from", "2031-06-13", "--to", "2031-06-13")["entries"]
    closed.clock_offset -= timedelta(days=1)
    reversal = closed.ask("ada", "ledger", "correct", entry["entry_id"], "--reason", "a mistake")
    assert reversal["business_date"] == "2031-06-13"


def test_doctor_finds_the_ended_days_in_order(closed: Company) -> None:
    report = closed.run("doctor", "--json").ok()
    checks = {check["name"]: check["ok"] for check in report["checks"]}
    for name in ("ended_days_match_events", "closed_days_have_ended", "business_dates_follow_ends"):
        assert checks[name] is True

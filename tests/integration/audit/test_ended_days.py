"""The doctor checks which days have ended, and the dates that events and entries count for."""

import pytest

from popug_cli.messages.billing import CorrectEntry
from popug_cli.messages.company import CheckHealth
from tests.support.company import InProcess
from tests.support.ledger_company import company, original, tamper

__all__ = ["company", "original"]

LAST_COMPLETION = "(SELECT max(sequence) FROM bus_log WHERE type = 'popug.tasks.task_completed.v1')"
OTHER_DATE = f"""
    UPDATE bus_log SET envelope = json_set(envelope, '$.businessdate', '2026-03-05') WHERE sequence = {LAST_COMPLETION}
"""
IS_FIRST_END = "type = 'popug.tasks.day_ended.v1' AND subject = '2026-03-02'"


def failed_checks(company: InProcess) -> dict[str, str]:
    return {check.name: check.detail for check in company.backend.perform(CheckHealth()).checks if not check.ok}


def test_company_with_closed_days_is_healthy(company: InProcess) -> None:
    ended = company.rows("SELECT business_date FROM tasks_ended_days ORDER BY 1")
    assert [row["business_date"] for row in ended] == ["2026-03-02", "2026-03-03"]
    assert company.rows("SELECT business_date FROM billing_ended_days ORDER BY 1") == ended
    assert failed_checks(company) == {}


@pytest.mark.parametrize(
    ("statement", "check", "named"),
    [
        ("UPDATE tasks_ended_days SET ended_at = '2026-03-09'", "ended_days_match_events", "day 2026-03-02"),
        ("UPDATE tasks_ended_days SET event_id = business_date", "ended_days_match_events", "day 2026-03-03"),
        ("DELETE FROM tasks_ended_days WHERE business_date = '2026-03-02'", "ended_days_match_events", "the event at"),
        ("DELETE FROM billing_ended_days", "ended_days_match_events", "in billing"),
        (
            "INSERT INTO billing_ended_days VALUES ('2026-03-04', '')",
            "ended_days_match_events",
            "2026-03-04 of billing",
        ),
        ("INSERT INTO tasks_ended_days VALUES ('2026-03-04', NULL, '')", "closed_days_have_ended", "ended 2026-03-04"),
        ("DELETE FROM tasks_ended_days", "closed_days_have_ended", "last ended none, last closed 2026-03-03"),
        ("UPDATE tasks_company SET first_day = '2026-03-01'", "business_dates_follow_ends", "2026-03-01 of tasks"),
        (OTHER_DATE, "business_dates_follow_ends", "counts for 2026-03-05, should for 2026-03-04"),
        (OTHER_DATE, "entry_causes_exist", "dated 2026-03-04, its cause counts for 2026-03-05"),
        (f"DELETE FROM bus_log WHERE {IS_FIRST_END}", "ended_days_match_events", "day 2026-03-02"),
    ],
)
def test_damaged_days_are_found(company: InProcess, statement: str, check: str, named: str) -> None:
    tamper(company, statement)
    assert named in failed_checks(company)[check]


def test_old_events_without_a_date_are_not_checked(company: InProcess) -> None:
    tamper(company, "UPDATE bus_log SET envelope = json_remove(envelope, '$.businessdate')")
    assert "business_dates_follow_ends" not in failed_checks(company)


def test_reversal_before_its_entry_is_found(company: InProcess) -> None:
    entry = company.rows("SELECT entry_id FROM billing_entries WHERE kind = 'fee' ORDER BY position DESC LIMIT 1")[0]
    company.act("boss", CorrectEntry(entry_id=entry["entry_id"], reason="a mistake"))
    assert failed_checks(company) == {}
    tamper(company, "UPDATE billing_entries SET business_date = '2026-03-01' WHERE corrects IS NOT NULL")
    assert "dated 2026-03-01, its cause counts for 2026-03-04" in failed_checks(company)["entry_causes_exist"]

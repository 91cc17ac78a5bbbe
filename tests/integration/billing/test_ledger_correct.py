"""A correction reverses an entry in the open day, with a recorded reason; no entry is changed."""

from typing import Any

import pytest

from popug_cli.messages.analytics import GetAnalytics
from popug_cli.messages.billing import CloseDay, CorrectEntry, EntryKind, GetBalance, GetIncome, GetStatement
from popug_cli.messages.company import CheckHealth, ShowTask
from tests.support.company import InProcess
from tests.support.error_checks import refused
from tests.support.ledger_company import company, original

__all__ = ["company", "original"]


def entry_of(company: InProcess, kind: str, which: str = "min") -> dict[str, Any]:
    (row,) = company.rows(
        "SELECT e.*, a.username FROM billing_entries e JOIN billing_accounts a ON a.account_id = e.employee_id"
        f" WHERE position = (SELECT {which}(position) FROM billing_entries WHERE kind = '{kind}')"
    )
    return row


def assert_healthy(company: InProcess) -> None:
    assert [check for check in company.backend.perform(CheckHealth()).checks if not check.ok] == []


@pytest.mark.parametrize(("kind", "sign"), [("fee", 1), ("reward", -1)])
def test_correction_reverses_an_entry_in_the_open_day(company: InProcess, kind: str, sign: int) -> None:
    wrong = entry_of(company, kind)
    before = company.act("boss", GetBalance(username=wrong["username"]))
    income = company.act("boss", GetIncome()).total_income_cents
    closed = company.act("boss", GetIncome()).days[:-1]
    reversal = company.act("boss", CorrectEntry(entry_id=wrong["entry_id"], reason=" It was a parrot. "))
    cents = sign * wrong["amount_cents"]
    assert (reversal.kind, reversal.signed_cents) == (f"{kind}_reversal", cents)
    assert reversal.business_date.isoformat() == "2026-03-04" > wrong["business_date"]
    after = company.act("boss", GetBalance(username=wrong["username"]))
    assert after.balance_cents == before.balance_cents + cents == reversal.balance_cents
    assert after.earned_today_cents == before.earned_today_cents + (cents if kind == "reward" else 0)
    shown = company.act("boss", GetIncome())
    assert shown.total_income_cents == income - cents
    assert shown.days[:-1] == closed
    assert company.act("boss", GetAnalytics()).income_cents == shown.days[-1].income_cents
    statement = company.act("boss", GetStatement(username=wrong["username"]))
    assert statement.entries[-1] == reversal
    assert reversal.task
    assert reversal in company.act("boss", ShowTask(number=reversal.task.number)).entries
    assert_healthy(company)


def test_correction_is_recorded_with_reason_and_actor(company: InProcess) -> None:
    wrong = entry_of(company, "fee")
    reversal = company.act("boss", CorrectEntry(entry_id=wrong["entry_id"], reason="It was a parrot."))
    events = company.rows(
        "SELECT type, json_extract(envelope, '$.actor') AS actor,"
        " json_extract(envelope, '$.data.corrects') AS corrects,"
        " json_extract(envelope, '$.data.reason') AS reason, json_extract(envelope, '$.causationid') AS cause"
        " FROM bus_log ORDER BY sequence DESC LIMIT 2"
    )
    assert events[0] == {
        "type": "popug.billing.entry_corrected.v1",
        "actor": "boss",
        "corrects": wrong["entry_id"],
        "reason": "It was a parrot.",
        "cause": None,
    }
    assert (events[1]["actor"], events[1]["corrects"], events[1]["cause"]) == (
        "boss",
        wrong["entry_id"],
        reversal.event_id,
    )
    (cause,) = company.rows(f"SELECT envelope FROM bus_log WHERE id = '{reversal.event_id}'")
    assert f'"entry_id":"{wrong["entry_id"]}"' in cause["envelope"]


def test_refused_correction_changes_nothing(company: InProcess) -> None:
    wrong = entry_of(company, "fee")
    reversal = company.act("boss", CorrectEntry(entry_id=wrong["entry_id"], reason="once"))
    entries = company.rows("SELECT count(*) AS n FROM billing_entries")
    payout = entry_of(company, "payout")["entry_id"]
    for entry_id, kind in ((wrong["entry_id"], "fee"), (reversal.entry_id, "fee_reversal"), (payout, "payout")):
        with refused("not_correctable", 6, {"entry_id": entry_id, "kind": kind}):
            company.act("boss", CorrectEntry(entry_id=entry_id, reason="again"))
    for entry_id in ("", "no such entry", "\ud800"):
        with refused("entry_not_found", 3, {"entry_id": entry_id}):
            company.act("boss", CorrectEntry(entry_id=entry_id, reason="again"))
    for reason in ("", "  ", "two\nlines", "x" * 501):
        with refused("invalid_reason", 2):
            company.act("boss", CorrectEntry(entry_id=entry_of(company, "fee", "max")["entry_id"], reason=reason))
    assert company.rows("SELECT count(*) AS n FROM billing_entries") == entries


def test_corrections_are_paid_out_and_closed_like_any_entry(company: InProcess) -> None:
    for kind in ("fee", "reward"):
        company.act("boss", CorrectEntry(entry_id=entry_of(company, kind, "max")["entry_id"], reason="wrong"))
    (day,) = company.act("boss", CloseDay(send_mail=False)).days
    assert not day.already_closed
    fee = entry_of(company, "fee", "max")
    second_fee = entry_of(company, EntryKind.FEE)
    assert fee["entry_id"] != second_fee["entry_id"]
    late = company.act("boss", CorrectEntry(entry_id=second_fee["entry_id"], reason="after the close"))
    assert late.business_date.isoformat() == "2026-03-05"
    assert_healthy(company)

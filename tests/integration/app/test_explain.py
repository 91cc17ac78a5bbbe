"""A figure is explained by its parts, down to the events and draws that caused them."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import msgspec
import pytest

from popug_cli.billing import explain
from popug_cli.kernel.errors import NotFound
from popug_cli.messages.billing import CloseDay, CorrectEntry, GetBalance, GetIncome, GetStatement
from popug_cli.messages.company import (
    ExplainBalance,
    ExplainIncome,
    ExplainTask,
    Explanation,
    ExplanationNode,
    ShowTask,
)
from popug_cli.messages.tasks import AddTask, ShuffleTasks
from tests.support.company import InProcess
from tests.support.ledger_company import company, original

__all__ = ["company", "original"]

PEOPLE = ("kesha", "gosha", "ara.b-c_d")


def nodes(reasons: list[ExplanationNode]) -> Iterator[ExplanationNode]:
    for reason in reasons:
        yield reason
        yield from nodes(reason.because)


def adds_up(answer: Explanation) -> bool:
    return answer.figure_cents == sum(reason.amount_cents or 0 for reason in answer.because)


@pytest.mark.parametrize("name", PEOPLE)
def test_balance_is_explained_by_base_and_each_entry_since(company: InProcess, name: str) -> None:
    answer = company.act(name, ExplainBalance())
    assert answer == company.act("boss", ExplainBalance(username=name))
    assert answer.figure_cents == company.act(name, GetBalance()).balance_cents
    assert adds_up(answer)
    base, *entries = answer.because
    assert "brought forward from the end of 2026-03-03" in base.what
    assert base.event_id
    for entry in entries:
        assert entry.entry_id
        assert entry.rule
        reasons = [reason.what for reason in nodes(entry.because)]
        assert any(what.startswith(("assigned to", "completed by")) for what in reasons)
        assert any("from the seed" in what for what in reasons)


def test_balance_before_first_close_is_its_entries(tmp_path: Path) -> None:
    company = InProcess(tmp_path)
    company.hire("kesha")
    for _ in range(2):
        company.act("boss", AddTask(title="Feed the cage"))
    answer = company.act("kesha", ExplainBalance())
    assert [reason.amount_cents for reason in answer.because] == [
        entry.signed_cents for entry in company.act("kesha", GetStatement()).entries
    ]
    assert adds_up(answer)


def test_shuffled_fee_is_explained_by_requester_of_shuffle(company: InProcess) -> None:
    reasons = [reason.what for name in PEOPLE for reason in nodes(company.act(name, ExplainBalance()).because)]
    assert "shuffle requested by boss" in reasons
    assert "created by boss" in reasons


def test_every_event_that_is_named_is_in_the_log(company: InProcess) -> None:
    logged = {row["id"] for row in company.rows("SELECT id FROM bus_log")}
    answers = [company.act(name, ExplainBalance()) for name in PEOPLE]
    answers += [company.act("boss", ExplainIncome(day=date(2026, 3, day))) for day in (2, 3, 4)]
    named = {reason.event_id for answer in answers for reason in nodes(answer.because) if reason.event_id}
    assert named
    assert named <= logged


@pytest.mark.parametrize("day", [date(2026, 3, 2), date(2026, 3, 4), date(2020, 1, 1), date(2030, 1, 1)])
def test_income_is_explained_by_fees_and_rewards(company: InProcess, day: date) -> None:
    answer = company.act("boss", ExplainIncome(day=day))
    days = company.act("boss", GetIncome(from_date=day, to_date=day)).days
    assert answer.figure_cents == (days[0].income_cents if days else 0)
    assert adds_up(answer)
    if day == date(2026, 3, 2):
        (recorded,) = answer.because
        assert recorded.event_id
        assert recorded.amount_cents == sum(kind.amount_cents or 0 for kind in recorded.because)


def test_task_is_explained_by_visible_entries(company: InProcess) -> None:
    entries = company.act("boss", ShowTask(number=1)).entries
    answer = company.act("boss", ExplainTask(number=1))
    assert answer.figure_cents == sum(entry.signed_cents for entry in entries)
    assert adds_up(answer)
    assert "priced: fee" in answer.because[0].what
    for name in PEOPLE:
        own_entries = company.act(name, ShowTask(number=1)).entries
        assert company.act(name, ExplainTask(number=1)).figure_cents == sum(entry.signed_cents for entry in own_entries)
    with pytest.raises(NotFound):
        company.act("boss", ExplainTask(number=99))


def test_correction_is_explained_by_its_reason(company: InProcess) -> None:
    (fee,) = company.rows("SELECT entry_id FROM billing_entries WHERE kind = 'fee' ORDER BY position DESC LIMIT 1")
    reversal = company.act("boss", CorrectEntry(entry_id=fee["entry_id"], reason="It was a parrot."))
    assert reversal.task
    answer = company.act("boss", ExplainTask(number=reversal.task.number))
    reasons = [reason.what for reason in nodes(answer.because)]
    assert "corrected by boss: It was a parrot." in reasons
    assert adds_up(company.act("boss", ExplainIncome()))


def test_tree_stays_small_with_many_entries(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "MAX_SHOWN_ENTRIES", 3)
    for _ in range(5):
        company.act("boss", ShuffleTasks())
    answers = [company.act(name, ExplainBalance()) for name in PEOPLE] + [company.act("boss", ExplainIncome())]
    assert all(adds_up(answer) for answer in answers)
    assert all(len(answer.because) <= 5 for answer in answers)
    company.act("boss", CloseDay(send_mail=False))
    assert [len(company.act(name, ExplainBalance()).because) for name in PEOPLE] == [1, 1, 1]


def test_json_explanation_has_no_empty_field_but_causes(company: InProcess) -> None:
    document = msgspec.to_builtins(company.act("kesha", ExplainBalance()))
    pending = list(document["because"])
    while pending:
        node = pending.pop()
        assert None not in node.values()
        pending += node["because"]

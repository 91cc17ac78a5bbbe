"""After any history, as of now is the plain answer, and as of an earlier instant is the answer of then."""

import random
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from popug_cli.kernel.errors import PopugError
from popug_cli.messages.analytics import GetAnalytics
from popug_cli.messages.base import Message
from popug_cli.messages.billing import CloseDay, CorrectEntry, GetBalance, GetIncome, GetStatement
from popug_cli.messages.tasks import AddTask, ListTasks, ShuffleTasks
from tests.support.company import InProcess
from tests.support.ledger_company import complete

PEOPLE = ("kesha", "gosha")
STEPS = 22


def answers(company: InProcess, **as_of: Any) -> dict[str, Any]:
    """Return income, analytics, statement and balance, of today and of the days around it."""
    today = company.backend.runtime.calendar.date_of(company.clock.now())
    asked: list[Message[Any]] = [GetIncome(**as_of), GetAnalytics(**as_of)]
    for days in (-3, -1, 0, 1):
        asked.append(GetAnalytics(day=today + timedelta(days=days), **as_of))
    for name in PEOPLE:
        first, last = today - timedelta(days=9), today + timedelta(days=2)
        asked += [GetBalance(username=name, **as_of), GetStatement(username=name, **as_of)]
        asked.append(GetStatement(username=name, from_date=first, to_date=last, **as_of))
        asked.append(GetStatement(username=name, from_date=today, to_date=last, **as_of))
    return {repr(type(message)) + str(n): company.act("boss", message) for n, message in enumerate(asked)}


def step(company: InProcess, chance: random.Random) -> None:
    """Do one thing that a day may bring; a refusal is ignored."""
    company.clock.advance(minutes=chance.choice((1, 30, 300, 1500)))
    kind = chance.choice(("add", "add", "shuffle", "complete", "complete", "close", "yesterday", "correct"))
    entries = [row["entry_id"] for row in company.rows("SELECT entry_id FROM billing_entries")]
    open_tasks = [task.number for task in company.act("boss", ListTasks()).tasks]
    with suppress(PopugError):
        if kind == "complete" and open_tasks:
            complete(company, chance.choice(open_tasks))
        elif kind == "correct" and entries:
            company.act("boss", CorrectEntry(entry_id=chance.choice(entries), reason="chance"))
        elif kind in {"close", "yesterday"}:
            company.act("boss", CloseDay(yesterday=kind == "yesterday", send_mail=False))
        else:
            message: Message[Any] = ShuffleTasks() if kind == "shuffle" else AddTask(title="Something")
            company.act("boss", message)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_as_of_now_is_the_plain_answer_after_every_step(seed: int, tmp_path: Path) -> None:
    chance, company = random.Random(seed), InProcess(tmp_path)
    for name in PEOPLE:
        company.hire(name)
    said = []
    for _ in range(STEPS):
        step(company, chance)
        plain = answers(company)
        assert answers(company, as_of_time=company.clock.now()) == plain
        said.append((company.clock.now(), company.act("boss", GetBalance(username="kesha")).balance_cents))
    assert len({cents for _, cents in said}) > 1
    for instant, cents in said:
        assert company.act("boss", GetBalance(username="kesha", as_of_time=instant)).balance_cents == cents

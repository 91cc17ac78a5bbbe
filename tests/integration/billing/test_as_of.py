"""A query as of an instant returns later the same answer that it returned then."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from popug_cli.messages.analytics import GetAnalytics
from popug_cli.messages.base import Message
from popug_cli.messages.billing import CloseDay, CorrectEntry, GetBalance, GetIncome, GetStatement
from popug_cli.messages.tasks import AddTask, ShuffleTasks
from tests.support.company import InProcess
from tests.support.ledger_company import company_with_a_past, complete

PEOPLE = ("kesha", "gosha", "ara.b-c_d")
DAYS = [date(2026, 3, day) for day in range(1, 8)]


def questions(**as_of: Any) -> Iterator[Message[Any]]:
    yield GetIncome(**as_of)
    yield GetAnalytics(**as_of)
    for day in DAYS:
        yield GetAnalytics(day=day, **as_of)
    for name in PEOPLE:
        yield GetBalance(username=name, **as_of)
        yield GetStatement(username=name, from_date=DAYS[0], to_date=DAYS[-1], **as_of)


def answers(company: InProcess, **as_of: Any) -> list[Any]:
    return [company.act("boss", message) for message in questions(**as_of)]


def lived_through(company: InProcess) -> Iterator[None]:
    """Continue the company's history, each step at its own instant: a late close, a correction, work after both."""
    steps: list[Message[Any]] = [
        AddTask(title="Late work"),
        ShuffleTasks(),
        CloseDay(send_mail=False, day=date(2026, 3, 4)),
        AddTask(title="Early work"),
        CloseDay(send_mail=False),
        ShuffleTasks(),
    ]
    for step in steps:
        company.clock.advance(hours=7)
        company.act("boss", step)
        yield
    company.clock.advance(minutes=1)
    complete(company, 7)
    yield
    (entry,) = company.rows("SELECT entry_id FROM billing_entries WHERE kind = 'reward' ORDER BY position DESC LIMIT 1")
    company.clock.advance(minutes=1)
    company.act("boss", CorrectEntry(entry_id=entry["entry_id"], reason="wrong"))
    yield


@pytest.fixture(scope="module")
def recorded_answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[InProcess, list[tuple[datetime, list[Any]]]]:
    company = company_with_a_past(tmp_path_factory.mktemp("told"))
    said = [(company.clock.now(), answers(company)) for _ in lived_through(company)]
    return company, said


def test_as_of_an_instant_equals_the_answer_of_then(
    recorded_answers: tuple[InProcess, list[tuple[datetime, list[Any]]]],
) -> None:
    company, said = recorded_answers
    assert len({str(spoken) for _, spoken in said}) == len(said)
    for instant, spoken in said:
        assert answers(company, as_of_time=instant) == spoken


def test_as_of_now_equals_the_plain_answer(
    recorded_answers: tuple[InProcess, list[tuple[datetime, list[Any]]]],
) -> None:
    company, _ = recorded_answers
    assert answers(company, as_of_time=company.clock.now()) == answers(company)


def test_as_of_before_the_company_is_empty(
    recorded_answers: tuple[InProcess, list[tuple[datetime, list[Any]]]],
) -> None:
    company, _ = recorded_answers
    for instant in (datetime(2026, 3, 1, tzinfo=UTC), datetime(2, 1, 2, tzinfo=UTC)):
        analytics = company.act("boss", GetAnalytics(as_of_time=instant))
        assert (analytics.income_cents, analytics.in_red_count) == (0, 0)
        assert analytics.most_expensive.by_day == []
        assert company.act("boss", GetAnalytics(day=DAYS[3], as_of_time=instant)).most_expensive.month is None


def test_as_of_the_future_equals_now(
    recorded_answers: tuple[InProcess, list[tuple[datetime, list[Any]]]],
) -> None:
    company, _ = recorded_answers
    later = company.clock.now() + timedelta(days=400)
    for day in DAYS:
        plain = company.act("boss", GetAnalytics(day=day))
        shown = company.act("boss", GetAnalytics(day=day, as_of_time=later))
        assert (shown.income_cents, shown.most_expensive) == (plain.income_cents, plain.most_expensive)

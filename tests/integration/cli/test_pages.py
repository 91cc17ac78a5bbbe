"""Lists longer than one answer are fetched page by page; overlong filters are refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from popug_cli.billing import queries as billing_queries
from popug_cli.bus import queries as bus_queries
from popug_cli.cli import pages
from popug_cli.cli.commands.money import balance_history
from popug_cli.cli.commands.money.balance_history import fetch_statement
from popug_cli.cli.commands.operations import events
from popug_cli.cli.commands.tasks import task_list
from popug_cli.cli.pages import fetch_rows
from popug_cli.kernel.errors import InvalidInput
from popug_cli.messages import base as messages
from popug_cli.messages.base import Message
from popug_cli.messages.billing import CloseDay, GetStatement
from popug_cli.messages.bus import ListEvents
from popug_cli.messages.identity import IssueToken, ListTokens, ListUsers
from popug_cli.messages.mail import ListMails
from popug_cli.messages.tasks import AddTask, CompleteTask, ExportTasks, ListTasks, StatusFilter, TaskSort
from popug_cli.tasks import queries as task_queries
from tests.support.company import InProcess

TASKS = 10
MAX_ROWS = 3


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    company = InProcess(tmp_path_factory.mktemp("pages") / "home")
    company.hire("kesha", "worker")
    for number in range(TASKS):
        company.act("boss", AddTask(title=f"Task {number}"))
    return company


@pytest.fixture
def context(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a context whose answers have at most ``MAX_ROWS`` rows; it counts the requests."""
    for module in (messages, billing_queries, bus_queries, task_queries, balance_history, events):
        monkeypatch.setattr(module, "MAX_ANSWER_ROWS", MAX_ROWS)
    context = SimpleNamespace(requests=0)

    def perform(message: Message[Any]) -> Any:
        context.requests += 1
        return company.act("boss", message)

    context.backends = SimpleNamespace(perform=perform)
    return context


@pytest.mark.parametrize(
    ("limit", "offset", "numbers", "requests"),
    [
        (None, 0, range(1, 11), 4),
        (None, 8, range(9, 11), 1),
        (None, 99, range(0), 1),
        (2, 0, range(1, 3), 1),
        (3, 0, range(1, 4), 1),
        (7, 1, range(2, 9), 3),
        (1_000, 5, range(6, 11), 2),
    ],
)
def test_tasks_are_listed_page_by_page(
    context: Any, limit: int | None, offset: int, numbers: range, requests: int
) -> None:
    page = task_list._fetch_pages(context, ListTasks(status=StatusFilter.ALL, limit=limit, offset=offset))
    assert [task.number for task in page.tasks] == [*numbers]
    assert (page.total, context.requests) == (TASKS, requests)


def test_sorted_tasks_appear_once(context: Any) -> None:
    page = task_list._fetch_pages(context, ListTasks(sort=TaskSort.REWARD))
    assert sorted(task.number for task in page.tasks) == [*range(1, 11)]
    rewards = [task.reward_cents or 0 for task in page.tasks]
    assert rewards == sorted(rewards, reverse=True)


@pytest.mark.parametrize("limit", [None, 1, 3, 4, 11])
def test_events_are_listed_page_by_page(context: Any, limit: int | None) -> None:
    found = events._fetch_events(context, ListEvents(type="task_created", limit=limit)).events
    assert [event["data"]["number"] for event in found] == [*range(1, 1 + min(limit or TASKS, TASKS))]


@pytest.mark.parametrize("limit", [None, 1, 2**60])
@pytest.mark.parametrize("offset", [0, 3, 8, 10, 2**60])
def test_part_of_a_statement_has_the_same_balances(company: InProcess, limit: int | None, offset: int) -> None:
    whole = company.act("kesha", GetStatement())
    part = company.act("kesha", GetStatement(limit=limit, offset=offset))
    assert part.entries == whole.entries[offset:][:limit]
    assert (part.opening_balance_cents, part.closing_balance_cents) == (0, whole.entries[-1].balance_cents)
    assert len(whole.entries) == TASKS


def test_statement_is_fetched_page_by_page(context: Any, company: InProcess) -> None:
    statement = fetch_statement(context.backends.perform, GetStatement(username="kesha"))
    assert [entry.task and entry.task.number for entry in statement.entries] == [*range(1, 11)]
    assert statement.closing_balance_cents == statement.entries[-1].balance_cents
    assert context.requests == 4


@pytest.mark.parametrize(
    ("message", "field"),
    [(ListUsers(), "users"), (ListTokens(), "tokens"), (ListMails(), "mails")],
)
def test_list_is_fetched_page_by_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: Message[Any], field: str
) -> None:
    company = InProcess(tmp_path / "home")
    company.hire("kesha", "worker")
    company.act("boss", IssueToken(username="kesha", ttl_seconds=60))
    company.act("boss", IssueToken(username="kesha", ttl_seconds=60))
    company.act("boss", AddTask(title="Feed"))
    company.act("kesha", CompleteTask(number=1))
    company.act("boss", CloseDay(send_mail=False))
    sizes: list[int] = []

    def fetch(message: Message[Any]) -> list[Any]:
        found: list[Any] = getattr(company.act("boss", message), field)
        sizes.append(len(found))
        return found

    whole = fetch(message)
    assert whole
    for module in (messages, pages):
        monkeypatch.setattr(module, "MAX_ANSWER_ROWS", 1)
    assert fetch_rows(fetch, message) == whole
    assert sizes == [len(whole), *[1] * len(whole), 0]


def test_one_answer_is_bounded(context: Any) -> None:
    assert len(context.backends.perform(ListTasks(limit=2**60)).tasks) == MAX_ROWS
    assert len(context.backends.perform(ExportTasks(limit=2**60)).tasks) == MAX_ROWS
    assert len(context.backends.perform(ListEvents(limit=2**60)).events) == MAX_ROWS
    assert len(context.backends.perform(GetStatement(username="kesha", limit=2**60)).entries) == MAX_ROWS
    assert len(context.backends.perform(GetStatement(username="kesha")).entries) == MAX_ROWS


@pytest.mark.parametrize("field", ["type", "subject", "actor"])
@pytest.mark.parametrize("typed", ["x" * 201, "%" * 60_000, "_" * 1_000_000, "\udcff"], ids=["x", "%", "_", "byte"])
def test_filter_that_no_event_has_is_refused(company: InProcess, field: str, typed: str) -> None:
    with pytest.raises(InvalidInput) as error:
        company.act("boss", ListEvents(**{field: typed}))  # type: ignore[arg-type]
    assert error.value.code == "invalid_filter"


@pytest.mark.parametrize("typed", ["x" * 200, "ключ", "%"])
def test_filter_that_matches_nothing_finds_nothing(company: InProcess, typed: str) -> None:
    for field in ("type", "subject", "actor"):
        assert company.act("boss", ListEvents(**{field: typed})).events == []  # type: ignore[arg-type]

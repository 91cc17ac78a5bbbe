"""Filters and sort orders of the task list."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from popug_cli.cli.context import CommandContext, GlobalOptions
from popug_cli.cli.input.dates import end_of, start_of
from popug_cli.kernel.errors import InvalidInput, NotFound
from popug_cli.messages.tasks import AddTask, CompleteTask, ListTasks, StatusFilter, TaskSort
from tests.support.company import InProcess


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    """Four tasks on four days from 2026-03-02 on, by two users; the first was completed on the fifth day."""
    company = InProcess(tmp_path_factory.mktemp("list") / "home")
    company.hire("kesha")
    for number, creator in enumerate(("boss", "kesha", "boss", "kesha"), start=1):
        company.act(creator, AddTask(title=f"Task {number}", jira_id=f"POPUG-{number % 2}"))
        company.clock.advance(days=1)
    company.act("kesha", CompleteTask(number=1))
    yield company
    company.backend.close()


def numbers(company: InProcess, **filters: Any) -> list[int]:
    page = company.act("kesha", ListTasks(**{"status": StatusFilter.ALL, **filters}))
    assert page.total == len(page.tasks)
    return [task.number for task in page.tasks]


def on(day: int) -> datetime:
    return datetime(2026, 3, day, tzinfo=UTC)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"creator": "boss"}, [1, 3]),
        ({"creator": "KESHA", "status": StatusFilter.OPEN}, [2, 4]),
        ({"jira_id": "popug-1"}, [1, 3]),
        ({"jira_id": "POPUG-7"}, []),
        ({"since": on(4)}, [3, 4]),
        ({"until": on(4)}, [1, 2]),
        ({"since": on(3), "until": on(5)}, [2, 3]),
        ({"status": StatusFilter.COMPLETED, "since": on(6)}, [1]),
        ({"status": StatusFilter.COMPLETED, "until": on(6)}, []),
        ({"backwards": True}, [4, 3, 2, 1]),
        ({"sort": TaskSort.AGE}, [1, 2, 3, 4]),
        ({"sort": TaskSort.AGE, "backwards": True}, [4, 3, 2, 1]),
    ],
)
def test_filter_finds_matching_tasks(company: InProcess, filters: dict[str, Any], found: list[int]) -> None:
    assert numbers(company, **filters) == found


def test_sort_by_reward_is_descending_or_reversed(company: InProcess) -> None:
    page = company.act("kesha", ListTasks(status=StatusFilter.ALL, sort=TaskSort.REWARD))
    rewards = [task.reward_cents or 0 for task in page.tasks]
    assert rewards == sorted(rewards, reverse=True)
    assert numbers(company, sort=TaskSort.REWARD, backwards=True) == [
        task.number for task in sorted(page.tasks, key=lambda task: (task.reward_cents or 0, -task.number))
    ]


def test_totals_cover_all_matches_not_the_page(company: InProcess) -> None:
    everything = company.act("kesha", ListTasks(status=StatusFilter.ALL))
    page = company.act("kesha", ListTasks(status=StatusFilter.ALL, limit=1, offset=1))
    assert len(page.tasks) == 1
    assert (page.total, page.fees_cents, page.rewards_cents) == (
        4,
        sum(task.fee_cents or 0 for task in everything.tasks),
        sum(task.reward_cents or 0 for task in everything.tasks),
    )


@pytest.mark.parametrize(
    ("typed", "first", "behind"),
    [
        ("09:30", "2026-03-02T08:30", "2026-03-02T08:30"),
        ("2026-02-28 9:30", "2026-02-28T08:30", "2026-02-28T08:30"),
        ("90 minutes ago", "2026-03-02T07:30", "2026-03-02T07:30"),
        ("2 h ago", "2026-03-02T07:00", "2026-03-02T07:00"),
        ("monday", "2026-03-01T23:00", "2026-03-02T23:00"),
        ("tuesday", "2026-02-23T23:00", "2026-02-24T23:00"),
        ("2026-03-29", "2026-03-28T23:00", "2026-03-29T22:00"),
        ("99999 days ago", "1752-05-17T23:06", "1752-05-18T23:06"),
    ],
)
def test_typed_times_are_in_the_company_zone(
    company: InProcess, typed: str, first: str, behind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(company.clock, "instant", datetime(2026, 3, 2, 9, 0, tzinfo=UTC))
    context = CommandContext(GlobalOptions(backend=company.backend), as_json=False)
    assert [f"{instant:%Y-%m-%dT%H:%M}" for instant in (start_of(context, typed), end_of(context, typed))] == [
        first,
        behind,
    ]


@pytest.mark.parametrize("typed", ["25:00", "2026-13-01 10:00", "tomorrow", "", "09:60"])
def test_invalid_time_is_refused(company: InProcess, typed: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        start_of(CommandContext(GlobalOptions(backend=company.backend), as_json=False), typed)
    assert caught.value.hint


def test_unknown_user_and_invalid_jira_id_are_refused(company: InProcess) -> None:
    with pytest.raises(NotFound, match="no user called"):
        numbers(company, creator="nobody")
    with pytest.raises(InvalidInput, match="not a valid jira id"):
        numbers(company, jira_id="POPUG")

"""What a list of tasks may be asked for."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from popug_cli.kernel.errors import InvalidInput, NotFound
from popug_cli.messages.tasks import AddTask, CompleteTask, ListTasks, StatusFilter, TaskSort
from tests.integration.support import InProcess


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    """Four tasks on four days from 2026-03-02 on, by two people; the first was completed on the fifth day."""
    company = InProcess(tmp_path_factory.mktemp("list") / "home")
    company.hire("kesha")
    for number, creator in enumerate(("boss", "kesha", "boss", "kesha"), start=1):
        company.act(creator, AddTask(title=f"Task {number}", jira_id=f"POPUG-{number % 2}"))
        company.clock.advance(days=1)
    company.act("kesha", CompleteTask(number=1))
    yield company
    company.place.close()


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
def test_a_filter_finds_what_it_says(company: InProcess, filters: dict[str, Any], found: list[int]) -> None:
    assert numbers(company, **filters) == found


def test_the_dearest_come_first_and_last_the_other_way_round(company: InProcess) -> None:
    page = company.act("kesha", ListTasks(status=StatusFilter.ALL, sort=TaskSort.REWARD))
    rewards = [task.reward_cents or 0 for task in page.tasks]
    assert rewards == sorted(rewards, reverse=True)
    assert numbers(company, sort=TaskSort.REWARD, backwards=True) == [
        task.number for task in sorted(page.tasks, key=lambda task: (task.reward_cents or 0, task.number))
    ]


def test_totals_are_of_all_that_pass_and_not_of_the_page(company: InProcess) -> None:
    everything = company.act("kesha", ListTasks(status=StatusFilter.ALL))
    page = company.act("kesha", ListTasks(status=StatusFilter.ALL, limit=1, offset=1))
    assert len(page.tasks) == 1
    assert (page.total, page.fees_cents, page.rewards_cents) == (
        4,
        sum(task.fee_cents or 0 for task in everything.tasks),
        sum(task.reward_cents or 0 for task in everything.tasks),
    )


def test_nobody_and_no_jira_id_are_refused(company: InProcess) -> None:
    with pytest.raises(NotFound, match="nobody called"):
        numbers(company, creator="nobody")
    with pytest.raises(InvalidInput, match="no jira id"):
        numbers(company, jira_id="POPUG")

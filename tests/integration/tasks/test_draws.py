"""Each draw asks for one seed, by its purpose and subject, and records that seed in its events."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from popug_cli.kernel.randomness import SEED_BYTES, DrawPurpose, RandomDraws
from popug_cli.messages.billing import TaskPriced
from popug_cli.messages.identity import DeactivateUser, UserDeactivated
from popug_cli.messages.tasks import AddTask, ImportTasks, NewTask, ShuffleTasks, TaskAssigned, TasksShuffled
from tests.support.company import InProcess, SeededChance
from tests.support.tasks_company import company_at, events, log_head


@dataclass
class CountedDraws:
    """Makes the seeds 1, 2, 3 … and remembers what they were for."""

    asked: list[tuple[DrawPurpose, str]] = field(default_factory=list)

    def new_seed(self, purpose: DrawPurpose, subject: str) -> str:
        self.asked.append((purpose, subject))
        return seed(len(self.asked))


def seed(number: int) -> str:
    return number.to_bytes(SEED_BYTES, "big").hex()


@pytest.fixture
def company(tmp_path: Path) -> InProcess:
    """Two workers and three tasks."""
    company = company_at(tmp_path / "home")
    company.hire("asya")
    company.act("kesha", ImportTasks(lines=[NewTask(title=f"Task {n}") for n in range(1, 4)]))
    return company


@pytest.fixture
def draws(company: InProcess) -> CountedDraws:
    draws = CountedDraws()
    company.backend.__dict__["runtime"] = replace(company.backend.runtime, draws=draws)
    return draws


def test_new_tasks_ask_for_one_seed_and_each_price(company: InProcess, draws: CountedDraws) -> None:
    head = log_head(company)
    company.act("kesha", ImportTasks(lines=[NewTask(title="Sweep"), NewTask(title="Sing")]))
    assigned, priced = events(company, TaskAssigned, after=head), events(company, TaskPriced, after=head)
    task_ids = [event.data.task_id for event in assigned]
    assert draws.asked == [("new_tasks", "4"), *[("price", task_id) for task_id in task_ids]]
    assert [event.data.draw.seed for event in assigned] == [seed(1)] * 2
    assert [(event.data.task_id, event.data.draw.seed) for event in priced] == [
        (task_ids[0], seed(2)),
        (task_ids[1], seed(3)),
    ]


def test_shuffle_asks_for_one_seed(company: InProcess, draws: CountedDraws) -> None:
    head = log_head(company)
    shuffle = company.act("boss", ShuffleTasks())
    assert draws.asked == [("shuffle", shuffle.shuffle_id)]
    drawn = [event.data.draw.seed for event in events(company, TaskAssigned, TasksShuffled, after=head)]
    assert drawn == [seed(1)] * 4


def test_reassignment_asks_for_one_seed(company: InProcess, draws: CountedDraws) -> None:
    head = log_head(company)
    company.act("boss", DeactivateUser(username="asya"))
    (left,) = events(company, UserDeactivated, after=head)
    assert draws.asked == [("reassignment", left.id)]


def test_random_draws_take_a_seed_of_random_bytes() -> None:
    expected = SeededChance().bytes(SEED_BYTES).hex()
    assert RandomDraws(SeededChance()).new_seed("price", "any") == expected


def test_first_task_of_a_company_is_the_subject_one(tmp_path: Path) -> None:
    company, draws = company_at(tmp_path / "home"), CountedDraws()
    company.backend.__dict__["runtime"] = replace(company.backend.runtime, draws=draws)
    company.act("kesha", AddTask(title="Feed the cage"))
    assert draws.asked[0] == ("new_tasks", "1")

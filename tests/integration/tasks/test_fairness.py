"""``tasks fairness`` counts every draw: of creation, of shuffles, and of reassignments."""

from collections import Counter
from pathlib import Path
from random import Random
from typing import cast

import pytest

from popug_cli.bus.context import Context
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.identity import ActivateUser, DeactivateUser
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import (
    AddTask,
    Fairness,
    GetFairness,
    ImportTasks,
    NewTask,
    PersonFairness,
    ShuffleTasks,
    TaskAssigned,
)
from popug_cli.tasks.fairness import CandidatePool, chi_squared_test
from popug_cli.tasks.people import Candidates, assignable, usernames
from popug_cli.tasks.queries import get_fairness
from tests.support.company import InProcess


def test_every_draw_is_counted_among_its_candidates(tmp_path: Path) -> None:
    company = InProcess(tmp_path / "home")
    assert company.act("boss", GetFairness()).people == []
    company.hire("asya")
    company.hire("gosha", "accountant")
    company.act("boss", ImportTasks(lines=[NewTask(title=f"Task {n}") for n in range(20)]))
    company.hire("kesha")
    nobody_drawn = {person.username: person.expected for person in company.act("boss", GetFairness()).people}
    assert nobody_drawn == {"asya": 10, "gosha": 10, "kesha": 0}
    company.act("boss", ShuffleTasks())
    (held,) = company.rows(
        "SELECT count(*) AS n FROM tasks_tasks t JOIN tasks_people p ON p.user_id = t.assignee_id"
        " WHERE p.username = 'kesha'"
    )
    company.act("boss", DeactivateUser(username="kesha"))
    answer = company.act("asya", GetFairness())
    expected = {person.username: person.expected for person in answer.people}
    half = held["n"] / 2
    assert expected == {
        "asya": round(10 + 20 / 3 + half, 6),
        "gosha": round(10 + 20 / 3 + half, 6),
        "kesha": round(20 / 3, 6),
    }
    assert sum(person.assigned for person in answer.people) == 40 + held["n"]
    assert 0 < answer.p_value <= 1


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_those_of_a_scan_of_the_log(tmp_path: Path, seed: int) -> None:
    company, chance = InProcess(tmp_path / "home"), Random(seed)
    names = [f"p{number}" for number in range(6)]
    for name in names[:3]:
        company.hire(name)
    for _ in range(30):
        match chance.randrange(6):
            case 0:
                company.act("boss", ShuffleTasks())
            case 1 if names[len(company.people) - 1 :]:
                company.hire(names[len(company.people) - 1])
            case 2:
                company.act("boss", DeactivateUser(username=chance.choice(list(company.people)[2:])))
            case 3:
                company.act("boss", ActivateUser(username=chance.choice(list(company.people)[1:])))
            case 4:
                company.act("boss", ImportTasks(lines=[NewTask(title=f"T {chance.random()}") for _ in range(5)]))
            case _:
                company.act("boss", AddTask(title="One"))
    with company.backend.runtime.writing(OPERATOR) as context:  # another program repeats a draw
        context.connection.execute(
            "INSERT INTO bus_log (envelope) SELECT replace(envelope, id, 'another') FROM bus_log"
            " WHERE type = 'popug.tasks.task_assigned.v1' LIMIT 1"
        )
    with company.backend.runtime.reading(OPERATOR) as context:
        found, scanned = get_fairness(GetFairness(), context), scan(context)
        assert found.people == scanned.people
        assert found.p_value == pytest.approx(scanned.p_value)
        assert sum(person.assigned for person in found.people) > 30


def scan(context: Context) -> Fairness:
    """Return the fairness by decoding every assignment in the log, as it was computed before the counts."""
    candidates = Candidates(context)
    draws_by_change, assigned = Counter[int](), Counter[str]()
    for event in context.log.by_type(TaskAssigned):
        assignment = cast(Delivered[TaskAssigned], event).data
        draws_by_change[candidates.last_change(assignment.draw.candidates_as_of)] += 1
        assigned[assignment.assignee_id] += 1
    pools = {change: CandidatePool(candidates.as_of(change), count) for change, count in draws_by_change.items()}
    result = chi_squared_test(pools, assigned)
    users = {*result.expected, *assignable(context)}
    names = usernames(context, users)
    people = [PersonFairness(names[user], assigned[user], round(result.expected.get(user, 0.0), 6)) for user in users]
    return Fairness(sorted(people, key=lambda person: person.username), result.p_value)

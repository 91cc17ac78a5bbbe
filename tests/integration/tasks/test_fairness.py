"""``tasks fairness`` counts every draw: of creation, of shuffles, and of reassignments."""

from pathlib import Path

from popug_cli.messages.identity import DeactivateUser
from popug_cli.messages.tasks import GetFairness, ImportTasks, NewTask, ShuffleTasks
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

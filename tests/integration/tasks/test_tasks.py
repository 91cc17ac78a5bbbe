"""Creating, listing, completing and importing tasks through the backend."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from popug_cli.kernel.errors import InvalidInput
from popug_cli.messages.company import ShowTask
from popug_cli.messages.identity import DeactivateUser, SetRole
from popug_cli.messages.tasks import (
    AddTask,
    CompleteTask,
    ExportTasks,
    GetTask,
    ImportTasks,
    ListTasks,
    NewTask,
    ShuffleTasks,
    StatusFilter,
    TaskAssigned,
    TaskCreated,
    TaskStatus,
)
from tests.support.company import InProcess
from tests.support.tasks_company import ALL, company_at, events, reassigned_from, refused

UUID = "01890000-0000-7000-8000-000000000000"


@pytest.fixture
def company(tmp_path: Path) -> InProcess:
    return company_at(tmp_path / "home")


def bring_in(company: InProcess, *lines: NewTask | None, by: str = "kesha") -> tuple[int, int]:
    done = company.act(by, ImportTasks(lines=[*lines]))
    return done.imported, done.skipped


def titles(company: InProcess, **filters: Any) -> list[str]:
    return [task.title for task in company.act("kesha", ListTasks(**filters)).tasks]


# --- creating -----------------------------------------------------------------------------------


def test_new_task_has_a_number_an_assignee_and_a_price(company: InProcess) -> None:
    created = [company.act("boss", AddTask(title=title)) for title in ("[popug-7] Feed", "Mend")]
    assert [(t.number, t.jira_id, t.title) for t in created] == [(1, "POPUG-7", "Feed"), (2, None, "Mend")]
    assert {(t.creator, t.assignee, t.status) for t in created} == {("boss", "kesha", TaskStatus.OPEN)}
    assert all(t.fee_cents in range(1000, 2001, 100) for t in created)
    assert all(t.reward_cents in range(2000, 4001, 100) for t in created)
    assert {t.created_at for t in created} == {company.clock.instant}


def test_first_assignment_is_caused_by_the_creation(company: InProcess) -> None:
    task = company.act("boss", AddTask(title="Feed"))
    company.act("kesha", CompleteTask(number=1))
    created, assigned = company.rows(
        "SELECT id, envelope ->> '$.causationid' AS cause, envelope ->> '$.actor' AS actor FROM bus_log"
        f" WHERE subject = '{task.task_id}' AND type IN ('{TaskCreated.TYPE}', '{TaskAssigned.TYPE}') ORDER BY sequence"
    )
    assert (created["cause"], created["actor"]) == (None, "boss")
    assert (assigned["cause"], assigned["actor"]) == (created["id"], "boss")


def test_commands_refused_without_assignable_users(company: InProcess) -> None:
    company.act("kesha", AddTask(title="Feed"))
    company.act("boss", DeactivateUser(username="kesha"))
    for message in (AddTask(title="Mend"), ImportTasks(lines=[NewTask(title="Mend")]), ShuffleTasks()):
        error = refused(company, "boss", message)
        assert (error.code, error.exit_status) == ("nobody_assignable", 6)
    assert company.act("boss", ALL).total == 1


# --- completing ---------------------------------------------------------------------------------


def test_assignee_completes_an_open_task_once(company: InProcess) -> None:
    company.act("boss", AddTask(title="Feed"))
    company.clock.advance(hours=1)
    done = company.act("kesha", CompleteTask(number=1))
    assert (done.status, done.completed_at) == (TaskStatus.COMPLETED, company.clock.instant)
    error = refused(company, "boss", CompleteTask(number=1))
    assert (error.code, error.exit_status) == ("task_completed", 6)
    assert error.message == "#1 was completed by kesha at 2026-03-02 11:00:00."
    assert error.details == {"number": 1, "assignee": "kesha", "completed_at": "2026-03-02T10:00:00.000000Z"}


def test_complete_refused_for_task_of_another(company: InProcess) -> None:
    company.act("boss", AddTask(title="Feed"))
    error = refused(company, "boss", CompleteTask(number=1))
    assert (error.code, error.exit_status, error.details["assignee"]) == ("not_your_task", 5, "kesha")


@pytest.mark.parametrize("number", [0, -1, 2, 2**53, 9**40])
def test_unknown_number_is_not_found(company: InProcess, number: int) -> None:
    for message in (CompleteTask(number=number), GetTask(number=number), ShowTask(number=number)):
        error = refused(company, "kesha", message)
        assert (error.code, error.exit_status) == ("task_not_found", 3)


def test_complete_refused_after_shuffle_names_assignee_and_time(company: InProcess) -> None:
    company.hire("gosha")
    task = reassigned_from(company, "kesha")
    company.clock.advance(minutes=5)
    error = refused(company, "kesha", CompleteTask(number=task.number))
    (shuffle,) = company.rows("SELECT shuffle_id FROM tasks_shuffles ORDER BY requested_at DESC LIMIT 1")
    assert (error.code, error.exit_status) == ("task_reassigned", 6)
    assert shuffle["shuffle_id"] in error.message
    assert "gosha" in error.message
    assert error.details["shuffle_id"] == shuffle["shuffle_id"]
    assert error.details["assignee"] == "gosha"
    shuffled_at = company.clock.instant - timedelta(minutes=5)
    assert error.details["reassigned_at"] == f"{shuffled_at:%Y-%m-%dT%H:%M:%S.%fZ}"


def test_complete_refused_after_role_change_gives_the_reason(company: InProcess) -> None:
    company.act("boss", AddTask(title="Feed"))
    company.hire("gosha")
    company.act("boss", SetRole(username="kesha", role="manager"))
    error = refused(company, "kesha", CompleteTask(number=1))
    assert (error.code, error.details["shuffle_id"], error.details["reason"]) == (
        "task_reassigned",
        None,
        "assignee_left",
    )
    assert "when you could not hold tasks" in error.message


# --- lists --------------------------------------------------------------------------------------


def test_search_takes_its_text_as_it_is_and_no_heed_of_case(company: InProcess) -> None:
    bring_in(
        company,
        NewTask(title="Clean 100% of it"),
        NewTask(title="Clean 1000 of it"),
        NewTask(title="Натереть ЖЁРДОЧКУ"),
        NewTask(title="Feed", jira_id="POPUG-7"),
        NewTask(title="a_b\\c"),
    )
    titles_by_search = {
        text: titles(company, search=text) for text in ("100%", "жёрд", "popug-7", "A_B", "\\", "no such", "")
    }
    assert titles_by_search == {
        "100%": ["Clean 100% of it"],
        "жёрд": ["Натереть ЖЁРДОЧКУ"],
        "popug-7": ["Feed"],
        "A_B": ["a_b\\c"],
        "\\": ["a_b\\c"],
        "no such": [],
        "": titles(company),
    }


def test_tasks_are_listed_by_status_assignee_and_page(company: InProcess) -> None:
    company.hire("gosha")
    bring_in(company, *(NewTask(title=f"Task {n}") for n in range(1, 9)))
    everything = company.act("kesha", ALL).tasks
    company.act(everything[2].assignee, CompleteTask(number=3))
    assert titles(company, status=StatusFilter.COMPLETED) == ["Task 3"]
    assert len(titles(company)) == 7
    for name in ("kesha", "gosha"):
        own_titles = [t.title for t in everything if t.assignee == name]
        assert titles(company, status=StatusFilter.ALL, assignee=name.upper()) == own_titles
    page = company.act("kesha", ListTasks(status=StatusFilter.ALL, limit=3, offset=6))
    assert ([t.number for t in page.tasks], page.total) == ([7, 8], 8)
    assert company.act("kesha", ListTasks(status=StatusFilter.ALL, limit=9**40, offset=9**40)).total == 8


@pytest.mark.parametrize("name", ["nobody", "", "caf\udce9", "x" * 1000])
def test_list_refused_for_an_unknown_assignee(company: InProcess, name: str) -> None:
    error = refused(company, "kesha", ListTasks(assignee=name))
    assert (error.code, error.exit_status) == ("user_not_found", 3)


def test_export_continues_after_a_number(company: InProcess) -> None:
    bring_in(company, *(NewTask(title=f"Task {n}") for n in range(1, 6)))
    assert [t.number for t in company.act("kesha", ExportTasks(after=1, limit=3)).tasks] == [2, 3, 4]
    assert company.act("kesha", ExportTasks(after=5)).tasks == []


# --- importing ----------------------------------------------------------------------------------


def test_file_is_imported_once_however_its_lines_move(company: InProcess) -> None:
    lines = [
        NewTask(title="Feed"),
        NewTask(title="Feed"),
        None,
        NewTask(title="Mend", jira_id="popug-9"),
        NewTask(title="Oil", task_id=UUID),
    ]
    assert bring_in(company, *lines) == (4, 0)
    assert bring_in(company, *lines) == (0, 4)
    assert bring_in(company, *reversed(lines), NewTask(title="[POPUG-9] Mend it"), NewTask(title="Feed")) == (1, 5)
    assert titles(company) == ["Feed", "Feed", "Mend", "Oil", "Feed"]


def test_lines_that_are_the_same_in_one_file_are_one_task(company: InProcess) -> None:
    assert bring_in(company, NewTask(title="Feed", jira_id="P-1"), NewTask(title="Feed it", jira_id="p-1")) == (1, 1)
    assert titles(company) == ["Feed"]


def test_import_is_compared_with_imports_only(company: InProcess) -> None:
    company.act("kesha", AddTask(title="[P-1] Feed"))
    assert bring_in(company, NewTask(title="Feed", jira_id="P-1")) == (1, 0)


def test_import_without_new_lines_needs_no_assignable_user(company: InProcess) -> None:
    bring_in(company, NewTask(title="Feed"))
    company.act("boss", DeactivateUser(username="kesha"))
    assert bring_in(company, NewTask(title="Feed"), None, by="boss") == (0, 1)
    assert bring_in(company, by="boss") == (0, 0)


def test_import_with_a_bad_line_imports_nothing(company: InProcess) -> None:
    lines = [NewTask(title="Feed"), None, NewTask(title="two\nlines")]
    error = refused(company, "kesha", ImportTasks(lines=[*lines]))
    assert isinstance(error, InvalidInput)
    assert (error.code, error.details["line"]) == ("invalid_title", 3)
    assert titles(company) == []


def test_import_creates_all_tasks_before_any_assignment(company: InProcess) -> None:
    count = 1200
    assert bring_in(company, *(NewTask(title=f"Task {n}") for n in range(count))) == (count, 0)
    created, assigned = events(company, TaskCreated), events(company, TaskAssigned)
    assert len(created) == len(assigned) == count
    assert created[-1].sequence < assigned[0].sequence
    assert all(task.fee_cents for task in company.act("kesha", ALL).tasks)


# --- a task with its history --------------------------------------------------------------------


def test_task_shows_history_and_entries_visible_to_caller(company: InProcess) -> None:
    company.hire("gosha")
    task = reassigned_from(company, "kesha")
    company.act("gosha", CompleteTask(number=task.number))
    shown = {name: company.act(name, ShowTask(number=task.number)) for name in ("boss", "kesha", "gosha")}
    history = shown["kesha"].history
    assert [line.event for line in history if line.event != "task_assigned"] == [
        "task_created",
        "task_priced",
        "task_completed",
    ]
    moved = [line for line in history if line.reason == "shuffled"]
    assert (moved[-1].previous_assignee, moved[-1].assignee, moved[-1].actor) == ("kesha", "gosha", "boss")
    assert moved[-1].shuffle_id
    kinds = {name: [entry.kind for entry in details.entries] for name, details in shown.items()}
    assert kinds == {"kesha": ["fee"], "gosha": ["fee", "reward"], "boss": ["fee", "fee", "reward"]}
    assert company.warnings == []

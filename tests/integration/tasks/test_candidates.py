"""Candidates for tasks: a user who stops being one loses the open tasks at once, to others and for a fee."""

from pathlib import Path

import pytest

from popug_cli.messages.base import Role
from popug_cli.messages.identity import (
    ActivateUser,
    DeactivateUser,
    SetRole,
    UserDeactivated,
    UserReactivated,
    UserRegistered,
)
from popug_cli.messages.tasks import AddTask, CompleteTask, ImportTasks, NewTask, TaskAssigned
from tests.support.company import InProcess
from tests.support.tasks_company import ALL, catch_up_all, company_at, events, log_head, publish


@pytest.fixture
def company(tmp_path: Path) -> InProcess:
    """Kesha is the only worker and holds six tasks; the first is completed."""
    company = company_at(tmp_path / "home")
    company.act("kesha", ImportTasks(lines=[NewTask(title=f"Task {n}") for n in range(1, 7)]))
    company.act("kesha", CompleteTask(number=1))
    return company


def holders(company: InProcess) -> list[str]:
    return [task.assignee for task in company.act("boss", ALL).tasks]


@pytest.mark.parametrize(
    "leaving",
    [
        DeactivateUser(username="kesha"),
        SetRole(username="kesha", role="manager"),
        SetRole(username="kesha", role="admin"),
    ],
    ids=["deactivated", "manager", "admin"],
)
def test_former_candidate_loses_open_tasks_by_draw(company: InProcess, leaving: DeactivateUser | SetRole) -> None:
    company.hire("asya")
    company.hire("gosha", "accountant")
    start = log_head(company)
    company.act("boss", leaving)
    kesha = company.people["kesha"].user_id
    assert holders(company)[0] == "kesha"
    assert set(holders(company)[1:]) == {"asya", "gosha"}
    assigned = events(company, TaskAssigned, after=start)
    assert [(e.data.reason, e.data.previous_assignee_id, e.actor) for e in assigned] == [
        ("assignee_left", kesha, "boss")
    ] * 5
    fees = company.rows("SELECT count(*) AS n FROM billing_entries WHERE kind = 'fee'")
    assert fees == [{"n": 6 + 5}]


def test_deactivation_is_the_cause_of_reassignments(company: InProcess) -> None:
    company.hire("asya")
    start = log_head(company)
    company.act("boss", DeactivateUser(username="kesha"))
    (left,) = events(company, UserDeactivated, after=start)
    causes = company.rows(
        "SELECT DISTINCT envelope ->> '$.causationid' AS cause FROM bus_log"
        f" WHERE type = '{TaskAssigned.TYPE}' AND sequence > {start}"
    )
    assert causes == [{"cause": left.id}]


def test_change_to_another_assignable_role_moves_no_task(company: InProcess) -> None:
    company.hire("asya")
    company.act("boss", SetRole(username="kesha", role="accountant"))
    assert set(holders(company)) == {"kesha"}


def test_tasks_stay_without_candidates_until_one_arrives(company: InProcess) -> None:
    start = log_head(company)
    company.act("boss", DeactivateUser(username="kesha"))
    assert events(company, TaskAssigned, after=start) == []
    assert set(holders(company)) == {"kesha"}
    company.hire("asya")
    assert holders(company) == ["kesha"] + ["asya"] * 5
    assert {e.data.reason for e in events(company, TaskAssigned, after=start)} == {"assignee_left"}


def test_reactivated_user_keeps_tasks_without_a_new_fee(company: InProcess) -> None:
    start = log_head(company)
    company.act("boss", DeactivateUser(username="kesha"))
    company.act("boss", ActivateUser(username="kesha"))
    assert events(company, TaskAssigned, after=start) == []
    assert set(holders(company)) == {"kesha"}


def test_many_user_changes_equal_single_ones(company: InProcess) -> None:
    kesha = company.people["kesha"].user_id
    newcomers = [
        UserRegistered(user_id=f"id-{n}", username=f"bird{n}", email=f"bird{n}@example.com", role=Role.WORKER)
        for n in range(600)
    ]
    publish(company, *newcomers[:300], UserDeactivated(user_id=kesha), *newcomers[300:])
    publish(company, *(UserDeactivated(user_id=bird.user_id) for bird in newcomers[:598]))
    publish(company, UserReactivated(user_id="id-0"), UserDeactivated(user_id="id-0"))
    catch_up_all(company)
    assert set(holders(company)[1:]) <= {"bird598", "bird599"}
    task = company.act("boss", AddTask(title="Feed"))
    assert task.assignee in {"bird598", "bird599"}


def test_event_about_unknown_user_is_parked_and_blocks_none(company: InProcess) -> None:
    publish(company, UserDeactivated(user_id="unheard-of"))
    assert company.hire("asya").username == "asya"
    assert company.act("boss", AddTask(title="Feed")).assignee in {"asya", "kesha"}
    aside = company.rows("SELECT subject FROM bus_set_aside WHERE consumer = 'tasks'")
    assert aside == [{"subject": "unheard-of"}]

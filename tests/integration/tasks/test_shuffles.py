"""Shuffles: verifiable draws, requests that fail permanently, redelivery without effect."""

from pathlib import Path
from typing import Any

import pytest

from popug_cli.kernel.errors import PopugError
from popug_cli.messages.base import Role
from popug_cli.messages.identity import DeactivateUser, UserDeactivated, UserReactivated, UserRegistered
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import (
    CompleteTask,
    GetShuffle,
    ImportTasks,
    NewTask,
    Shuffle,
    ShuffleFailed,
    ShuffleRequested,
    ShuffleTasks,
    TaskAssigned,
    TasksShuffled,
    VerifyShuffle,
)
from popug_cli.tasks import assignments
from popug_cli.tasks.commands import shuffle_tasks
from popug_cli.tasks.consumers import CONSUMER
from popug_cli.tasks.queries import get_shuffle
from tests.support.company import InProcess
from tests.support.tasks_company import ALL, catch_up_all, company_at, events, log_head, publish, refused

TABLES = ("tasks_people", "tasks_people_history", "tasks_tasks", "tasks_shuffles", "tasks_imported")


@pytest.fixture
def company(tmp_path: Path) -> InProcess:
    """Three workers and twenty tasks, the first of which is completed."""
    company = company_at(tmp_path / "home")
    company.hire("asya")
    company.hire("gosha", "accountant")
    company.act("kesha", ImportTasks(lines=[NewTask(title=f"Task {n}") for n in range(1, 21)]))
    company.act(company.act("kesha", ALL).tasks[0].assignee, CompleteTask(number=1))
    return company


def holders(company: InProcess) -> list[str]:
    return [task.assignee for task in company.act("kesha", ALL).tasks]


def state(company: InProcess) -> list[list[dict[str, Any]]]:
    return [company.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES]


def tamper(company: InProcess, *statements: str) -> None:
    with company.backend.runtime.writing(OPERATOR) as context:
        for statement in statements:
            context.connection.execute(statement)


# --- effects ------------------------------------------------------------------------------------


def test_shuffle_draws_every_open_task_and_leaves_the_others(company: InProcess) -> None:
    before, start = holders(company), log_head(company)
    done = company.act("boss", ShuffleTasks())
    assert (done.task_count, done.candidates_count) == (19, 3)
    assigned = events(company, TaskAssigned, after=start)
    assert [event.data.reason for event in assigned] == ["shuffled"] * 19
    assert {event.data.shuffle_id for event in assigned} == {done.shuffle_id}
    assert {event.actor for event in assigned} == {"boss"}
    assert len({event.data.assignee_id for event in assigned}) == 3
    assert any(event.data.assignee_id == event.data.previous_assignee_id for event in assigned)
    assert holders(company)[0] == before[0]
    assert holders(company) != before


def test_shuffle_events_share_one_draw_and_its_request(company: InProcess) -> None:
    start = log_head(company)
    done = company.act("boss", ShuffleTasks())
    (request,) = events(company, ShuffleRequested, after=start)
    (shuffled,) = events(company, TasksShuffled, after=start)
    assert {event.data.draw for event in events(company, TaskAssigned, after=start)} == {shuffled.data.draw}
    assert (shuffled.data.task_count, shuffled.data.candidates_count) == (19, 3)
    causes = company.rows(
        "SELECT DISTINCT envelope ->> '$.causationid' AS cause FROM bus_log"
        f" WHERE sequence > {start} AND type IN ('{TaskAssigned.TYPE}', '{TasksShuffled.TYPE}')"
    )
    assert causes == [{"cause": request.id}]
    assert request.data.shuffle_id == done.shuffle_id


def test_shuffle_without_open_tasks_does_nothing(tmp_path: Path) -> None:
    company = company_at(tmp_path / "home")
    done = company.act("boss", ShuffleTasks())
    assert (done.task_count, done.candidates_count) == (0, 1)
    assert company.act("kesha", VerifyShuffle(shuffle_id=done.shuffle_id)).checked == 0
    company.act("boss", DeactivateUser(username="kesha"))
    assert company.act("boss", ShuffleTasks()).candidates_count == 0


def test_shuffles_and_people_of_one_batch_are_taken_as_one(company: InProcess) -> None:
    polly = UserRegistered(user_id="p", username="polly", email="p@example.com", role=Role.WORKER)
    requests = [ShuffleRequested(shuffle_id=f"s{n}", requested_by="boss") for n in range(2)]
    publish(company, requests[0], polly, requests[1])
    for request in requests:
        assert company.act("boss", GetShuffle(shuffle_id=request.shuffle_id)).candidates_count == 4
        assert company.act("kesha", VerifyShuffle(shuffle_id=request.shuffle_id)).different == []


def test_shuffle_request_from_outside_is_carried_out(company: InProcess) -> None:
    publish(company, ShuffleRequested(shuffle_id="from-outside", requested_by=company.people["boss"].user_id))
    assert company.act("boss", GetShuffle(shuffle_id="from-outside")) == Shuffle("from-outside", 19, 3)


def test_shuffle_reports_progress(company: InProcess) -> None:
    reported: list[tuple[str, int, int]] = []
    company.backend.progress = lambda label, done, total: reported.append((label, done, total))
    del company.backend.__dict__["runtime"]
    company.act("boss", ShuffleTasks())
    assert ("Shuffling", 19, 19) in reported


# --- verification of draws ----------------------------------------------------------------------


def test_draws_verify_after_people_changed(company: InProcess) -> None:
    shuffles = [company.act("boss", ShuffleTasks()).shuffle_id]
    company.act("boss", DeactivateUser(username="asya"))
    shuffles.append(company.act("boss", ShuffleTasks()).shuffle_id)
    company.hire("polly")
    shuffles.append(company.act("boss", ShuffleTasks()).shuffle_id)
    for shuffle_id in shuffles:
        check = company.act("kesha", VerifyShuffle(shuffle_id=shuffle_id))
        assert (check.checked, check.different) == (19, [])


def test_verify_names_a_task_that_differs_from_its_draw(company: InProcess) -> None:
    start = log_head(company)
    done = company.act("boss", ShuffleTasks())
    event = events(company, TaskAssigned, after=start)[4]
    other_user = next(p for p in ("asya", "kesha") if company.people[p].user_id != event.data.assignee_id)
    tamper(
        company,
        "DROP TRIGGER bus_log_no_update",
        "UPDATE bus_log SET envelope = json_set(envelope, '$.data.assignee_id',"
        f" '{company.people[other_user].user_id}') WHERE sequence = {event.sequence}",
    )
    check = company.act("kesha", VerifyShuffle(shuffle_id=done.shuffle_id))
    by_id = {principal.user_id: name for name, principal in company.people.items()}
    (wrong,) = check.different
    assert (wrong.number, wrong.recorded, wrong.expected) == (6, other_user, by_id[event.data.assignee_id])
    assert check.checked == 19


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM bus_log WHERE sequence = (SELECT last_sequence FROM tasks_shuffles)",
        f"DELETE FROM bus_log WHERE type = '{TasksShuffled.TYPE}'",
        "UPDATE bus_log SET envelope = json_set(envelope, '$.data.draw.algorithm', 'loaded-dice')"
        f" WHERE type = '{TasksShuffled.TYPE}'",
        "UPDATE tasks_people_history SET assignable = 0",
        "UPDATE tasks_shuffles SET candidates_count = 7",
    ],
)
def test_shuffle_that_cannot_be_proved_is_an_integrity_fault(company: InProcess, statement: str) -> None:
    done = company.act("boss", ShuffleTasks())
    tamper(company, "DROP TRIGGER bus_log_no_update", "DROP TRIGGER bus_log_no_delete", statement)
    with pytest.raises(PopugError) as caught:
        company.act("kesha", VerifyShuffle(shuffle_id=done.shuffle_id))
    assert (caught.value.code, caught.value.exit_status) == ("integrity", 7)


@pytest.mark.parametrize("shuffle_id", ["", "nothing", "caf\udce9"])
def test_unknown_shuffle_is_not_found(company: InProcess, shuffle_id: str) -> None:
    error = refused(company, "kesha", VerifyShuffle(shuffle_id=shuffle_id))
    assert (error.code, error.exit_status) == ("shuffle_not_found", 3)


# --- failed requests ----------------------------------------------------------------------------


def test_failed_shuffle_is_recorded_and_never_done_later(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    before, start = holders(company), log_head(company)
    with monkeypatch.context() as broken:
        broken.setattr(assignments, "draw_assignee", lambda *_: 1 / 0)
        with pytest.raises(PopugError) as caught:
            company.act("boss", ShuffleTasks())
    assert (caught.value.code, caught.value.exit_status) == ("shuffle_failed", 1)
    assert "ZeroDivisionError" in caught.value.message
    (failed,) = events(company, ShuffleFailed, after=start)
    assert "ZeroDivisionError" in failed.data.error
    company.clock.advance(days=1)
    catch_up_all(company)
    assert events(company, TaskAssigned, after=start) == []
    assert holders(company) == before
    assert company.rows("SELECT * FROM bus_set_aside") == []


def test_shuffle_without_candidates_fails(company: InProcess) -> None:
    for name in ("asya", "gosha", "kesha"):
        company.act("boss", DeactivateUser(username=name))
    publish(company, ShuffleRequested(shuffle_id="s", requested_by="boss"))
    with pytest.raises(PopugError, match="no user is assignable") as caught:
        company.act("boss", GetShuffle(shuffle_id="s"))
    assert caught.value.code == "shuffle_failed"


def test_finished_shuffle_cannot_fail(company: InProcess) -> None:
    done, before = company.act("boss", ShuffleTasks()), state(company)
    head = log_head(company)
    (request,) = events(company, ShuffleRequested)
    with company.backend.runtime.writing(OPERATOR) as context:
        assert CONSUMER.give_up(request, "too late", context)
    assert (state(company), log_head(company)) == (before, head)
    assert company.act("boss", GetShuffle(shuffle_id=done.shuffle_id)) == done


def test_waiting_shuffle_is_in_doubt(company: InProcess) -> None:
    with company.backend.runtime.writing(company.people["boss"]) as context:
        asked = shuffle_tasks(ShuffleTasks(), context)
    with company.backend.runtime.reading(OPERATOR) as context, pytest.raises(PopugError) as caught:
        get_shuffle(asked, context)
    assert (caught.value.code, caught.value.exit_status) == ("in_doubt", 8)
    assert company.act("boss", asked).task_count == 19


# --- redelivery ---------------------------------------------------------------------------------


def test_redelivery_changes_nothing(company: InProcess) -> None:
    company.act("boss", ShuffleTasks())
    company.act("boss", DeactivateUser(username="asya"))
    before, head = state(company), log_head(company)
    tamper(
        company,
        "DELETE FROM bus_inbox WHERE consumer = 'tasks'",
        "UPDATE bus_cursors SET position = 0 WHERE consumer = 'tasks'",
    )
    catch_up_all(company)
    assert state(company) == before
    assert log_head(company) == head


def test_late_user_change_alters_no_draw(company: InProcess) -> None:
    """The parked event is consumed at the head of the log, before a lagging consumer reaches it."""
    asya, kesha = (company.people[name].user_id for name in ("asya", "kesha"))
    company.act("boss", DeactivateUser(username="asya"))
    first, second, third = (ShuffleRequested(shuffle_id=f"s{n}", requested_by="boss") for n in range(3))
    start = log_head(company)
    publish(company, first, second, UserDeactivated(user_id=kesha), third, UserReactivated(user_id=asya))
    published = events(company, after=start)
    with company.backend.runtime.writing(OPERATOR) as context:
        for event in (published[0], published[4], published[1], published[2], published[3]):
            late = event is published[4]
            CONSUMER.consume([event], context if late else context.at_position(event.sequence))
    catch_up_all(company)
    checks = [company.act("boss", VerifyShuffle(shuffle_id=f"s{n}")) for n in range(3)]
    assert [(check.checked, check.different) for check in checks] == [(19, [])] * 3
    counts = [company.act("boss", GetShuffle(shuffle_id=f"s{n}")).candidates_count for n in range(3)]
    assert counts == [2, 3, 2]

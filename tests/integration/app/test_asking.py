"""Composed answers ask the modules by messages: on one snapshot, and with the rights of the sender."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest

from popug_cli.app import LocalBackend
from popug_cli.app.asking import CompanySnapshot, perform_part
from popug_cli.kernel.errors import NotAllowed, NotFound
from popug_cli.messages import internal
from popug_cli.messages.base import DECLARATIONS, Access, Declaration, Message, Role, declarations
from popug_cli.messages.billing import CloseDay, GetIncome, ListTaskEntries
from popug_cli.messages.company import ExplainTask, ShowTask
from popug_cli.messages.identity import IssueToken, ListUsers, Scope, SetRole
from popug_cli.messages.internal.analytics import GetMostExpensiveTask
from popug_cli.messages.internal.billing import (
    CloseNextDay,
    ExplainTaskEntries,
    GetAmountsAtStake,
    GetAnalyticsAsOf,
    GetClosedDay,
    ListOwnActivities,
    ListRoleChanges,
)
from popug_cli.messages.internal.mail import CountMails, QueueSummaries, SendDue
from popug_cli.messages.internal.tasks import GetTasks, ListTaskHistory
from popug_cli.messages.tasks import AddTask, CompleteTask, GetTask, Task
from popug_cli.messages.today import ActivityKind, ShowToday
from tests.support.company import InProcess
from tests.support.running_server import RunningServer, create_home

for found in iter_modules(internal.__path__):
    import_module(f"{internal.__name__}.{found.name}")

INTERNAL = sorted(
    (declaration for declaration in DECLARATIONS.values() if declaration.is_internal), key=lambda each: each.name
)


@pytest.fixture
def company(tmp_path: Path) -> InProcess:
    company = InProcess(tmp_path)
    company.hire("kesha")
    company.hire("asya", "accountant")
    return company


def add_task(company: InProcess, assignee: str) -> Task:
    """Add tasks until one is assigned to the user, and return that one."""
    while True:
        task = company.act("boss", AddTask(title="Feed the cage"))
        if task.assignee == assignee:
            return task


class AnotherProcess:
    """Another process, which performs a message between the first and the second question of a composed answer."""

    def __init__(self, company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
        self.company = company
        self.asked: list[str] = []
        self.act: Callable[[], object] | None = None
        self.is_acting = False
        ask = CompanySnapshot.ask

        def ask_after_a_change(asking: CompanySnapshot, message: Message[Any]) -> Any:
            if self.is_acting:
                return ask(asking, message)
            self.asked.append(type(message).__name__)
            if len(self.asked) == 2 and self.act is not None:
                self.is_acting = True
                self.act()
                self.is_acting = False
            return ask(asking, message)

        monkeypatch.setattr(CompanySnapshot, "ask", ask_after_a_change)

    def will(self, username: str, message: Message[Any]) -> None:
        """Perform the message on behalf of the user, and run the consumers."""

        def perform() -> None:
            other = LocalBackend(self.company.backend.home, clock=self.company.clock)
            other.perform_as(self.company.people[username], message)
            other.close()

        self.asked.clear()
        self.act = perform


@pytest.fixture
def other(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> AnotherProcess:
    return AnotherProcess(company, monkeypatch)


def test_task_show_is_of_one_snapshot(company: InProcess, other: AnotherProcess) -> None:
    task = add_task(company, "kesha")
    before = company.act("kesha", ShowTask(number=task.number))
    other.will("kesha", CompleteTask(number=task.number))
    assert company.act("kesha", ShowTask(number=task.number)) == before
    assert other.asked == ["GetTask", "ListTaskHistory", "ListTaskEntries"]
    after = company.act("kesha", ShowTask(number=task.number))
    assert [line.event for line in after.history][-1] == "task_completed"
    assert len(after.entries) == len(before.entries) + 1


def test_today_is_of_one_snapshot(company: InProcess, other: AnotherProcess) -> None:
    task = add_task(company, "kesha")
    before = company.act("kesha", ShowToday())
    other.will("kesha", CompleteTask(number=task.number))
    assert company.act("kesha", ShowToday()) == before
    after = company.act("kesha", ShowToday())
    assert after.happened[-1].what is ActivityKind.COMPLETED
    assert after.balance_cents > before.balance_cents


def test_explain_task_is_of_one_snapshot(company: InProcess, other: AnotherProcess) -> None:
    task = add_task(company, "kesha")
    before = company.act("kesha", ExplainTask(number=task.number))
    other.will("kesha", CompleteTask(number=task.number))
    assert company.act("kesha", ExplainTask(number=task.number)) == before
    assert company.act("kesha", ExplainTask(number=task.number)) != before


def test_today_shows_role_changes_in_the_order_of_the_log(company: InProcess) -> None:
    add_task(company, "kesha")
    company.act("boss", SetRole(username="kesha", role="accountant"))
    kesha = replace(company.people["kesha"], role=Role.ACCOUNTANT)
    company.people["kesha"] = kesha
    add_task(company, "kesha")
    today = company.act("kesha", ShowToday())
    kinds = [activity.what for activity in today.happened]
    assert (kinds[0], kinds[-1]) == (ActivityKind.GIVEN, ActivityKind.GIVEN)
    assert kinds.count(ActivityKind.ROLE_CHANGED) == 1
    assert today.happened_count == len(today.happened)
    since = company.act("kesha", ShowToday(after=today.last_sequence))
    assert (since.happened, since.happened_count) == ([], 0)


def test_today_counts_all_activities_and_shows_the_last(company: InProcess) -> None:
    for _ in range(12):
        company.act("kesha", CompleteTask(number=add_task(company, "kesha").number))
    company.act("boss", SetRole(username="kesha", role="accountant"))
    company.people["kesha"] = replace(company.people["kesha"], role=Role.ACCOUNTANT)
    today = company.act("kesha", ShowToday())
    assert (len(today.happened), today.happened_count) == (20, 25)
    assert today.happened[-1].what is ActivityKind.ROLE_CHANGED
    assert [activity.at for activity in today.happened] == sorted(activity.at for activity in today.happened)
    assert all(activity.task for activity in today.happened[:-1])


# --- rights -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "allowed"),
    [
        (GetAnalyticsAsOf(as_of_time=datetime(2026, 3, 2, 10, tzinfo=UTC)), {"boss"}),
        (GetMostExpensiveTask(day=date(2026, 3, 2)), {"boss", "asya"}),
        (GetClosedDay(day=date(2026, 3, 2)), {"boss", "asya"}),
        (GetAmountsAtStake(), {"boss", "asya"}),
        (CountMails(), {"boss", "asya"}),
        (ListUsers(), {"boss"}),
        (GetIncome(), {"boss", "asya"}),
        (ListRoleChanges(after=0), {"boss", "asya", "kesha"}),
        (ListOwnActivities(limit=5), {"boss", "asya", "kesha"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Message) else "",
)
def test_role_of_the_sender_decides_about_each_part(
    company: InProcess, message: Message[Any], allowed: set[str]
) -> None:
    for name, principal in company.people.items():
        with company.backend.asking(principal) as asking:
            if name in allowed:
                asking.ask(message)
            else:
                with pytest.raises(NotAllowed) as error:
                    asking.ask(message)
                assert (error.value.code, error.value.exit_status) == ("forbidden", 5)


@pytest.mark.parametrize("message", [SendDue(), QueueSummaries()])
def test_worker_starts_no_workflow(company: InProcess, message: Message[Any]) -> None:
    with pytest.raises(NotAllowed):
        perform_part(company.backend, company.people["kesha"], message)


def test_worker_closes_no_day_by_its_part(company: InProcess) -> None:
    with company.backend.runtime.writing(company.people["kesha"]) as context, pytest.raises(NotAllowed):
        CompanySnapshot(context).ask(CloseNextDay(up_to=date(2026, 3, 2)))
    assert company.rows("SELECT * FROM billing_days") == []


def test_worker_sees_own_entries_of_a_task_only(company: InProcess) -> None:
    task = add_task(company, "kesha")
    with company.backend.asking(company.people["kesha"]) as asking:
        assert len(asking.ask(ListTaskEntries(task_id=task.task_id)).entries) == 1
    company.hire("gosha")
    with company.backend.asking(company.people["gosha"]) as asking:
        assert asking.ask(ListTaskEntries(task_id=task.task_id)).entries == []
        assert asking.ask(ExplainTaskEntries(task_id=task.task_id)).figure_cents == 0
        with pytest.raises(NotAllowed):
            asking.ask(ListTaskEntries(task_id=task.task_id, username="kesha"))


def test_scoped_token_closes_with_summaries_and_asks_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPUG_MAIL_SUMMARY", "true")
    company = InProcess(tmp_path)
    company.hire("kesha")
    company.hire("asya", "accountant")
    scoped = company.act("boss", IssueToken(username="asya", ttl_seconds=600, scope=Scope.CLOSE_DAY)).token
    company.act("kesha", CompleteTask(number=add_task(company, "kesha").number))
    report = company.backend.perform(CloseDay(send_mail=False), scoped)
    assert report.mail.queued == 3  # a payslip, and a summary for each of the admin and the accountant
    with pytest.raises(NotAllowed):
        company.backend.perform(GetAmountsAtStake(), scoped)


@pytest.mark.parametrize("declaration", INTERNAL, ids=lambda each: each.name)
def test_internal_message_has_the_roles_of_its_command(declaration: Declaration) -> None:
    assert declaration.access is Access.TOKEN
    of_command = [each for each in declarations() if each.command_line == declaration.command_line]
    assert {each.roles for each in of_command} == {declaration.roles}
    assert declaration.roles_for_others == declaration.roles


# --- what is not there --------------------------------------------------------------------------


def test_unknown_tasks_have_no_history_and_are_not_found(company: InProcess) -> None:
    with company.backend.asking(company.people["kesha"]) as asking:
        assert asking.ask(ListTaskHistory(task_id="0")).lines == []
        assert asking.ask(GetTasks(task_ids={"0", "nothing"})).tasks == []
        for message in (GetTask(number=4711), GetTask(number=0)):
            with pytest.raises(NotFound):
                asking.ask(message)
    with pytest.raises(NotFound) as error:
        company.act("kesha", ExplainTask(number=4711))
    assert error.value.code == "task_not_found"


def test_server_has_no_route_for_internal_messages(tmp_path: Path) -> None:
    made = create_home(tmp_path / "home")
    with RunningServer(made.home.root, "--listen", "127.0.0.1:0") as served:
        for declaration in INTERNAL:
            answer = served.post(f"{declaration.module}/{declaration.name}", {}, made.tokens["ada"])
            assert (answer.status, answer.document["code"]) == (404, "route_not_found")

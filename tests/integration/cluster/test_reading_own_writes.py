"""A client sees at each service all that it has seen at another, or the answer says ``behind``."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from popug_cli.app import LocalBackend, replica_reads, service_reads
from popug_cli.bus.context import digits_of
from popug_cli.bus.service.coverage import includes_of
from popug_cli.kernel.errors import Unavailable
from popug_cli.kernel.positions import KnownPositions, Position, Positions
from popug_cli.messages.analytics import GetAnalytics
from popug_cli.messages.billing import CloseDay, GetBalance
from popug_cli.messages.identity import DeactivateUser
from popug_cli.messages.mail import SendMail
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import AddTask, CompleteTask, ListTasks, ShuffleTasks
from tests.integration.cluster.linked_company import LinkedCompany

SHORT_SECONDS = 0.3
LONG_SECONDS = 30.0


@pytest.fixture
def linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LinkedCompany]:
    monkeypatch.setenv("POPUG_SESSION", str(tmp_path / "session.json"))
    monkeypatch.setenv("POPUG_MAIL_SUMMARY", "true")
    linked = LinkedCompany(tmp_path)
    yield linked
    linked.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_reads, "WAIT_SECONDS", SHORT_SECONDS)
    monkeypatch.setattr(service_reads, "INSIST_SECONDS", 2 * SHORT_SECONDS)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_reads, "WAIT_SECONDS", LONG_SECONDS)


def later(work: Callable[[], object]) -> Thread:
    """Do work in another thread while a query waits for it."""

    def run() -> None:
        time.sleep(0.05)
        work()

    thread = Thread(target=run)
    thread.start()
    return thread


def seen(linked: LinkedCompany) -> Positions:
    return linked.client.read()


def forget_all_but(linked: LinkedCompany, *sources: str) -> None:
    """Let the client forget positions, so that only some are waited for."""
    kept = {source: position for source, position in seen(linked).items() if source in sources}
    linked.client = KnownPositions(kept)
    for backend in linked.services.values():
        backend.reads.positions = linked.client


@pytest.mark.usefixtures("patient")
def test_query_waits_for_own_write_elsewhere(linked: LinkedCompany) -> None:
    task = linked.act("boss", AddTask(title="Feed the cage"))
    linked.settle()
    assignee = task.assignee
    before = linked.act(assignee, GetBalance()).balance_cents
    linked.act(assignee, CompleteTask(number=task.number))
    copying = later(lambda: linked.copy("tasks"))
    after = linked.act(assignee, GetBalance()).balance_cents
    copying.join()
    assert after > before
    assert linked.warnings == []


@pytest.mark.usefixtures("impatient")
def test_query_that_is_behind_answers_with_a_warning(linked: LinkedCompany) -> None:
    task = linked.act("boss", AddTask(title="Feed the cage"))
    began = time.monotonic()
    assert linked.act(task.assignee, GetBalance()).balance_cents == 0
    assert time.monotonic() - began >= SHORT_SECONDS
    (warning,) = linked.warnings
    assert "(behind): billing has not caught up with tasks" in warning
    linked.warnings.clear()
    linked.settle()
    assert linked.act(task.assignee, GetBalance()).balance_cents < 0
    assert linked.warnings == []


@pytest.mark.usefixtures("impatient")
def test_effects_of_identity_arrive_by_tasks(linked: LinkedCompany) -> None:
    task = linked.act("boss", AddTask(title="Feed the cage"))
    linked.settle()
    leaver, stayer = (task.assignee, "bob" if task.assignee == "ann" else "ann")
    linked.act("boss", DeactivateUser(username=leaver))
    forget_all_but(linked, "identity")
    linked.copy("identity")
    linked.services["billing"].catch_up()
    assert linked.act(stayer, GetBalance()).balance_cents == 0
    assert "billing has not caught up with identity" in linked.warnings[0], "tasks has not reassigned"
    linked.warnings.clear()
    linked.services["tasks"].catch_up()
    linked.copy("tasks")
    assert linked.act(stayer, GetBalance()).balance_cents < 0
    assert linked.warnings == []


@pytest.mark.usefixtures("impatient")
def test_watermark_below_the_head_includes_nothing(linked: LinkedCompany) -> None:
    assignees = [linked.act("boss", AddTask(title=f"Task {number}")).assignee for number in range(5)]
    linked.settle()
    leaver = max(assignees, key=assignees.count)  # several tasks are reassigned
    linked.act("boss", DeactivateUser(username=leaver))
    forget_all_but(linked, "identity")
    linked.copy("identity")
    linked.services["tasks"].catch_up()
    linked.relay("tasks", limit=1)
    linked.receive("billing", "tasks")
    linked.act("boss", GetBalance())
    assert "(behind)" in linked.warnings[0]


def test_command_waits_for_no_other_service_than_identity(linked: LinkedCompany) -> None:
    billing = linked.services["billing"].runtime.log_id
    linked.client.keep({"billing": Position(10**9, billing)})
    began = time.monotonic()
    linked.act("ann", AddTask(title="Feed the cage"))
    assert time.monotonic() - began < replica_reads.WAIT_SECONDS / 2
    assert linked.warnings == []


@pytest.mark.usefixtures("patient")
def test_command_waits_for_the_users_it_decides_upon(linked: LinkedCompany) -> None:
    linked.act("boss", DeactivateUser(username="ann"))
    copying = later(lambda: linked.copy("identity"))
    for number in range(5):
        assert linked.act("boss", AddTask(title=f"Task {number}")).assignee == "bob"
    copying.join()
    assert linked.warnings == []


@pytest.mark.usefixtures("impatient")
def test_command_is_performed_though_identity_is_silent(linked: LinkedCompany) -> None:
    linked.act("boss", DeactivateUser(username="ann"))
    task = linked.act("boss", AddTask(title="Feed the cage"))
    assert task.number == 1
    (warning,) = linked.warnings
    assert "(behind): tasks has not caught up with identity" in warning


@pytest.mark.usefixtures("impatient")
def test_close_and_mail_insist(linked: LinkedCompany) -> None:
    linked.act("boss", AddTask(title="Feed the cage"))
    linked.company.clock.advance(days=1)
    began = time.monotonic()
    with pytest.raises(Unavailable) as refused:
        linked.act("boss", CloseDay(yesterday=True))
    assert refused.value.code == "behind"
    assert refused.value.exit_status == 8
    assert refused.value.details == {"service": "billing", "lacking": ["tasks"]}
    assert time.monotonic() - began >= 2 * SHORT_SECONDS
    assert linked.rows("billing", "SELECT * FROM billing_days") == []
    linked.client.keep({"billing": Position(10**9, linked.services["billing"].runtime.log_id)})
    with pytest.raises(Unavailable) as refused:
        linked.act("boss", SendMail())
    assert (refused.value.code, refused.value.details["lacking"]) == ("behind", ["billing"])


@pytest.mark.usefixtures("patient")
def test_close_sends_its_mail_when_mail_covers_it(linked: LinkedCompany) -> None:
    linked.act("boss", DeactivateUser(username="bob"))
    linked.settle()
    for title in ("Feed the cage", "Wipe the glass"):  # one reward may be as small as its fee: nothing is paid then
        linked.act("ann", CompleteTask(number=linked.act("boss", AddTask(title=title)).number))
    linked.company.clock.advance(days=1)
    is_over = Event()

    def copy_all() -> None:
        while not is_over.wait(0.02):
            for origin in ("identity", "tasks", "billing"):
                linked.copy(origin)

    copying = Thread(target=copy_all)
    copying.start()
    try:
        report = linked.act("boss", CloseDay(yesterday=True))
    finally:
        is_over.set()
        copying.join()
    assert [day.paid_count for day in report.days] == [1]
    assert (report.mail.sent, report.mail.queued) == (2, 0), "a payslip and the summary of the day for the boss"
    assert linked.warnings == []


@pytest.mark.usefixtures("impatient")
def test_preview_of_a_close_does_not_insist(linked: LinkedCompany) -> None:
    task = linked.act("boss", AddTask(title="Feed the cage"))
    assert linked.act("boss", CloseDay(dry_run=True)).days[0].fees_cents == 0
    assert any("(behind)" in warning for warning in linked.warnings)
    linked.warnings.clear()
    linked.settle()
    assert linked.act("boss", CloseDay(dry_run=True)).days[0].fees_cents == task_fee(linked, task.number)
    assert linked.warnings == []


def task_fee(linked: LinkedCompany, number: int) -> int:
    fees = linked.rows("billing", f"SELECT fee_cents FROM billing_tasks WHERE number = {number}")
    return int(fees[0]["fee_cents"])


def test_position_of_a_command_is_that_of_its_last_event(linked: LinkedCompany) -> None:
    tasks = linked.services["tasks"]
    linked.act("boss", AddTask(title="Feed the cage"))
    digits = tasks.runtime.service_log_id[-8:]
    assert tasks.reads.shown == {"tasks": Position(linked.head("tasks"), digits)}
    own = linked.head("tasks")
    linked.settle()
    assert linked.head("tasks") > own, "tasks has received the price"
    linked.act("boss", ShuffleTasks())
    last = linked.rows("tasks", "SELECT max(sequence) AS last FROM bus_log WHERE type LIKE '%tasks_shuffled%'")
    assert tasks.reads.shown == {"tasks": Position(last[0]["last"], digits)}


def test_query_carries_the_last_position_of_its_own_service(linked: LinkedCompany) -> None:
    linked.act("boss", AddTask(title="Feed the cage"))
    published = seen(linked)["tasks"]
    linked.settle()
    linked.act("boss", ListTasks())
    assert linked.services["tasks"].reads.shown == {"tasks": published}
    linked.act("boss", GetBalance())
    billing = linked.services["billing"]
    last = linked.rows("billing", "SELECT max(sequence) AS last FROM bus_log WHERE type LIKE 'popug.billing.%'")
    assert billing.reads.shown == {"billing": Position(last[0]["last"], billing.runtime.log_id)}


@pytest.mark.usefixtures("impatient")
def test_what_one_service_has_published_another_one_shows(linked: LinkedCompany) -> None:
    linked.act("boss", AddTask(title="Feed the cage"))
    linked.copy("tasks")
    linked.services["billing"].catch_up()
    forget_all_but(linked)
    linked.act("boss", GetBalance())
    linked.act("boss", GetAnalytics())
    assert "analytics has not caught up with billing" in linked.warnings[0]
    linked.warnings.clear()
    linked.copy("billing")
    linked.act("boss", GetAnalytics())
    assert linked.warnings == []


def test_part_for_another_service_waits_for_the_first_one(linked: LinkedCompany) -> None:
    linked.act("boss", AddTask(title="Feed the cage"))
    linked.settle()
    task = linked.act("boss", ListTasks()).tasks[0]
    assert linked.services["tasks"].reads.positions is linked.client
    linked.act(task.assignee, CompleteTask(number=task.number))
    assert seen(linked)["tasks"].number == linked.head("tasks")


@pytest.mark.parametrize("source", ["company", "database", "mail", "analytics", "billing", "elsewhere"])
def test_positions_without_a_row_are_ignored(linked: LinkedCompany, source: str) -> None:
    linked.client.keep({source: Position(10**9, linked.services["billing"].runtime.log_id)})
    began = time.monotonic()
    linked.act("boss", GetBalance())
    assert time.monotonic() - began < replica_reads.WAIT_SECONDS / 2
    assert linked.warnings == []


@pytest.mark.parametrize("digits", ["00000000", "0", "abcdef"])
def test_positions_of_another_log_are_ignored(linked: LinkedCompany, digits: str) -> None:
    linked.client.keep({"tasks": Position(10**9, digits), "identity": Position(10**9, digits)})
    linked.act("boss", GetBalance())
    assert linked.warnings == []


def test_events_set_aside_are_named(linked: LinkedCompany, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("popug_cli.billing.consumers._entries", broken, raising=True)
        linked.act("boss", AddTask(title="Feed the cage"))
        linked.settle()
        linked.warnings.clear()
        linked.act("boss", GetBalance())
    (warning,) = [warning for warning in linked.warnings if "set aside" in warning]
    assert "billing:1" in warning
    assert "`popug events dead`" in warning
    assert not any("(behind)" in warning for warning in linked.warnings)


def broken(*_: object) -> None:
    raise RuntimeError("broken")


@pytest.mark.usefixtures("impatient")
def test_received_is_not_consumed(linked: LinkedCompany, monkeypatch: pytest.MonkeyPatch) -> None:
    linked.act("boss", AddTask(title="Feed the cage"))
    published = seen(linked)["tasks"].number
    linked.copy("tasks")
    billing = linked.services["billing"]
    assert covered(billing)["tasks"] < published
    with monkeypatch.context() as patch:
        patch.setattr(billing, "catch_up", lambda **_: None)
        linked.act("boss", GetBalance())
    assert "(behind)" in linked.warnings[0]
    billing.catch_up()
    assert covered(billing)["tasks"] >= published


def covered(backend: LocalBackend) -> dict[str, int]:
    with backend.runtime.reading(OPERATOR) as context:
        return includes_of(context, backend.runtime.service, backend.consumers)


def test_log_id_is_that_of_the_service(linked: LinkedCompany) -> None:
    ids = {name: backend.runtime.log_id for name, backend in linked.services.items()}
    assert len(set(ids.values())) == len(ids)
    assert ids["tasks"] == digits_of(linked.rows("tasks", "SELECT log_id FROM bus_relay")[0]["log_id"])

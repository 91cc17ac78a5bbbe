"""The dashboard, driven by keys alone, on a screen of 80 x 24."""

import asyncio
import json
import os
import re
import select
import signal
import sqlite3
import subprocess
import sys
import termios
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from textual.pilot import Pilot

from popug_cli.cli.commands.start import dashboard as command
from popug_cli.cli.commands.start import today
from popug_cli.cli.context import CommandContext, GlobalOptions
from popug_cli.cli.main import run
from popug_cli.client.address import Address
from popug_cli.client.remote_backend import RemoteBackend
from popug_cli.dashboard.app import Dashboard
from popug_cli.dashboard.worker import Company
from popug_cli.kernel.clock import SystemClock
from popug_cli.kernel.errors import Unavailable
from popug_cli.messages.base import Message, Role
from popug_cli.messages.billing import CloseDay, GetBalance
from popug_cli.messages.identity import IssueToken, User, WhoAmI
from popug_cli.messages.tasks import AddTask, CompleteTask, GetTask, ListTasks, ShuffleTasks
from tests.support.company import InProcess
from tests.support.running_server import RunningServer, create_home
from tests.support.tasks_company import company_at

PATIENCE_SECONDS = 60
Walk = Callable[[Pilot[None]], Awaitable[None]]


@pytest.fixture
def company(tmp_path: Path) -> InProcess:
    """A boss and kesha, the assignee of every task."""
    return company_at(tmp_path / "home")


def dashboard_of(company: InProcess, name: str, perform: Callable[[Message[Any]], Any] | None = None) -> Dashboard:
    principal = company.people[name]
    user = User(principal.user_id, name, f"{name}@example.com", principal.role or Role.WORKER, active=True)
    way_in: Any = perform or (lambda message: company.act(name, message))
    return Dashboard(Company(way_in, user, company.backend.calendar, today.describe, refresh_seconds=0.05))


def walk(dashboard: Dashboard, steps: Walk) -> None:
    async def walked() -> None:
        async with dashboard.run_test(size=(80, 24)) as pilot:
            await steps(pilot)
            await pilot.press("q")

    asyncio.run(walked())


async def seen(pilot: Pilot[None], *texts: str) -> str:
    """Wait until the screen shows these texts."""
    give_up_at = monotonic() + PATIENCE_SECONDS
    while not all(text in screen(pilot) for text in texts):
        assert monotonic() < give_up_at, f"{texts} did not come to be seen in\n{screen(pilot)}"
        await pilot.pause(0.02)
    return screen(pilot)


def screen(pilot: Pilot[None]) -> str:
    width, height = pilot.app.size
    lines = pilot.app.screen._compositor.render_strips()[:height]
    assert all(strip.cell_length <= width for strip in lines)
    return "\n".join(strip.text.rstrip() for strip in lines)


def test_worker_completes_a_task_and_sees_the_reward(company: InProcess) -> None:
    task = company.act("boss", AddTask(title="Feed [b]the cage".replace("[b]", "<b>"), jira_id="POPUG-7"))
    assert task.reward_cents is not None
    reward = f"${task.reward_cents // 100}"

    async def steps(pilot: Pilot[None]) -> None:
        first = await seen(pilot, "My open tasks: 1;", "1  POPUG-7 Feed <b>the cage", reward, "in the red")
        assert "Shuffle" not in first
        assert "analytics" not in first
        await pilot.press("enter")
        await seen(pilot, "#1 Feed <b>the cage (POPUG-7): created by boss, 2026-03-02 10:00; assigned to", "kesha; fee")
        await pilot.press("c")
        await seen(pilot, f"#1 Feed <b>the cage is completed; it brought {reward}.", "My open tasks: none.")
        await seen(pilot, f"earned today {reward}")
        await pilot.press("s", "3")
        assert "tasks" in await seen(pilot, "My open tasks: none.")

    walk(dashboard_of(company, "kesha"), steps)
    assert company.act("kesha", GetTask(number=1)).status == "completed"


def test_changes_of_others_appear_without_a_key_press(company: InProcess) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await seen(pilot, "My open tasks: none.", "balance $0")
        company.act("boss", AddTask(title="Feed the cage"))
        await seen(pilot, "1  Feed the cage", "10:00 #1 Feed the cage is yours now", "balance -$")
        company.hire("gosha")
        while company.act("boss", GetTask(number=1)).assignee == "kesha":
            company.act("boss", ShuffleTasks())
        await seen(pilot, "#1 Feed the cage went to gosha", "My open tasks: none.")

    walk(dashboard_of(company, "kesha"), steps)


def test_completing_a_shuffled_task_shows_a_message(company: InProcess) -> None:
    company.act("boss", AddTask(title="Feed the cage"))
    company.hire("gosha")

    def behind_the_back(message: Message[Any]) -> Any:
        while isinstance(message, CompleteTask) and company.act("boss", GetTask(number=1)).assignee == "kesha":
            company.act("boss", ShuffleTasks())
        return company.act("kesha", message)

    if company.act("boss", GetTask(number=1)).assignee != "kesha":
        company.act("boss", ShuffleTasks())

    async def steps(pilot: Pilot[None]) -> None:
        await seen(pilot, "1  Feed the cage")
        await pilot.press("c")
        await seen(pilot, "! ", "gosha", "My open tasks: none.")

    walk(dashboard_of(company, "kesha", behind_the_back), steps)


def test_shuffle_needs_yes(company: InProcess) -> None:
    company.act("boss", AddTask(title="Feed the cage"))
    before = company.act("kesha", GetBalance()).balance_cents

    async def steps(pilot: Pilot[None]) -> None:
        await seen(pilot, "My open tasks: none.", "Shuffle")
        await pilot.press("a")
        await seen(pilot, "All open tasks: 1;", "kesha")
        await pilot.press("s")
        await seen(pilot, "Draw a new assignee for 1 open task?", "y: yes")
        await pilot.press("2", "tab", "enter")
        await seen(pilot, "Nothing was shuffled.", "All open tasks: 1;")
        assert company.act("kesha", GetBalance()).balance_cents == before
        await pilot.press("s")
        await seen(pilot, "Draw a new assignee")
        await pilot.press("y")
        await seen(pilot, "1 task shuffled among 1 person.")

    walk(dashboard_of(company, "boss"), steps)
    assert company.act("kesha", GetBalance()).balance_cents == 2 * before


def test_money_and_analytics_have_their_figures_and_charts(company: InProcess) -> None:
    company.act("boss", AddTask(title="Feed the cage"))
    first = company.act("kesha", CompleteTask(number=1))
    company.act("boss", CloseDay(send_mail=False))
    company.clock.advance(days=1)
    company.act("boss", AddTask(title="Polish the perch"))

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("2")
        await seen(pilot, "Today's entries: none yet.", "My balance by day", "Management's income by day")
        await seen(pilot, "Mon 03-02  -$", "Tue 03-03", "█", "│")
        await pilot.press("3")
        await seen(pilot, "Management's income today  $", "In the red  1 person", "kesha", "of the day    none yet")
        await seen(pilot, f"of the week    ${(first.reward_cents or 0) // 100}  #1 Feed the cage")
        await pilot.press("tab")
        await seen(pilot, "[1 tasks]")

    walk(dashboard_of(company, "boss"), steps)

    async def own(pilot: Pilot[None]) -> None:
        await pilot.press("2")
        shown = await seen(pilot, "Today's entries: 1, -$", "fee", "#2 Polish the perch", "Mon 03-02", "Tue 03-03  -$")
        assert "income" not in shown

    walk(dashboard_of(company, "kesha"), own)


def test_entries_after_todays_close_are_shown(company: InProcess) -> None:
    company.act("boss", CloseDay(send_mail=False))
    company.act("boss", AddTask(title="Feed the cage"))

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("2")
        await seen(
            pilot, "balance -$", "Today's entries: 1, -$", "#1 Feed the cage", "Mon 03-02    $0", "Tue 03-03  -$"
        )

    walk(dashboard_of(company, "kesha"), steps)


def test_names_are_shortened_before_numbers(company: InProcess) -> None:
    long = "p" * 32
    company.hire(long)
    while company.act("boss", AddTask(title="Feed the cage " * 10)).assignee != long:
        pass

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("a", "o")
        line = next(each for each in (await seen(pilot, "ppp")).split("\n") if "ppp" in each)
        assert "Feed the cage Feed the cage" in line
        assert len(re.findall(r"\$\d\d", line)) == 2, line

    walk(dashboard_of(company, "boss"), steps)


def test_many_tasks_are_paged(company: InProcess) -> None:
    for number in range(3):
        company.act("boss", AddTask(title=f"Task {number}"))

    async def steps(pilot: Pilot[None]) -> None:
        await seen(pilot, "My open tasks: 1-2 of 3;", "2  Task 1", "n Next")
        await pilot.press("n")
        assert "Task 1" not in await seen(pilot, "My open tasks: 3-3 of 3;", "3  Task 2", "p Back")
        company.act("kesha", CompleteTask(number=3))
        await seen(pilot, "My open tasks: 2;", "2  Task 1")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("popug_cli.dashboard.tasks_view.PAGE_TASKS", 2)
        walk(dashboard_of(company, "kesha"), steps)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_internal_error_ends_dashboard_without_traceback(
    company: InProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(message: Message[Any]) -> Any:
        if isinstance(message, ListTasks):
            raise ZeroDivisionError("a fault")
        return company.act("kesha", message)

    dashboard = dashboard_of(company, "kesha", broken)

    async def steps(pilot: Pilot[None]) -> None:
        while dashboard.crash is None:
            await pilot.pause(0.02)

    with pytest.raises(Exception, match="a fault"):
        walk(dashboard, steps)
    assert isinstance(dashboard.crash, ZeroDivisionError)
    assert "Traceback" not in "".join(capsys.readouterr())


def test_dashboard_uses_a_server_and_reports_its_end(tmp_path: Path) -> None:
    residence = create_home(tmp_path / "home")
    token = residence.tokens["kesha"]
    with RunningServer(residence.home.root) as served:
        remote = RemoteBackend(Address(path=str(served.socket)))
        user = remote.perform(WhoAmI(), token)
        remote.perform(AddTask(title="Feed the cage"), token)

        async def steps(pilot: Pilot[None]) -> None:
            await pilot.press("a")
            await seen(pilot, "1  Feed the cage")
            served.end()
            await seen(pilot, "! ", "server")
            assert pilot.app.is_running

        way_in: Any = lambda message: remote.perform(message, token)  # noqa: E731
        walk(Dashboard(Company(way_in, user, remote.calendar, today.describe, refresh_seconds=0.05)), steps)


@pytest.fixture
def logged_in(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """The company, with the boss at its command line."""
    monkeypatch.setenv("POPUG_HOME", str(company.root))
    company.clock.instant = SystemClock().now()
    monkeypatch.setenv("POPUG_TOKEN", company.act("boss", IssueToken(username="boss", ttl_seconds=86400)).token)
    return company


def test_dashboard_without_terminal_prints_once(logged_in: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dashboard", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [*shown] == ["today", "statement", "income", "analytics"]
    assert run(["dashboard"]) == 0
    assert "Your open tasks" in capsys.readouterr().out


def test_dashboard_without_textual_says_what_to_install(
    logged_in: InProcess, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_is_live", lambda printer: True)
    monkeypatch.delitem(sys.modules, "popug_cli.dashboard.app", raising=False)
    monkeypatch.delattr("popug_cli.dashboard.app", raising=False)
    monkeypatch.setitem(sys.modules, "textual.app", None)
    assert run(["dashboard"]) == Unavailable.exit_status
    error = capsys.readouterr().err
    assert "(textual)" in error
    assert "pip install 'popug[tui]'" in error


def test_warning_is_shown_and_not_printed(
    logged_in: InProcess, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    companies = list[Company]()
    monkeypatch.setattr(command, "_is_live", lambda printer: True)
    monkeypatch.setattr("popug_cli.dashboard.app.run", companies.append)
    assert run(["dashboard"]) == 0
    (seen_by_it,) = companies
    assert seen_by_it.perform(WhoAmI()).username == "boss"
    assert seen_by_it.warnings() == []
    assert "".join(capsys.readouterr()) == ""


def test_dashboard_reads_the_restored_file_after_restore(logged_in: InProcess, tmp_path: Path) -> None:
    way_in = command.ReconnectingBackend(CommandContext(GlobalOptions(home=logged_in.root), as_json=False))
    assert way_in(ListTasks()).total == 0
    with closing(sqlite3.connect(logged_in.backend.home.database)) as database:
        database.execute("VACUUM INTO ?", (str(tmp_path / "restored"),))
    logged_in.act("boss", AddTask(title="Feed the cage"))
    assert way_in(ListTasks()).total == 1
    logged_in.backend.close()
    for left in logged_in.root.glob("popug.db-*"):
        left.unlink()
    (tmp_path / "restored").replace(logged_in.backend.home.database)
    assert way_in(ListTasks()).total == 0


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs terminals")
def test_dashboard_is_drawn_and_ends_cleanly_on_a_signal(logged_in: InProcess) -> None:
    logged_in.act("boss", AddTask(title="Feed the cage"))
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    before = termios.tcgetattr(theirs)
    line = [sys.executable, "-m", "popug_cli", "dashboard"]
    environment = os.environ | {"TERM": "xterm", "NO_COLOR": "1"}
    with subprocess.Popen(line, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        shown = read_until(ours, b"My open tasks: none.")
        process.send_signal(signal.SIGINT)
        shown += read_until(ours, b"\x1b[?1049l")
        assert process.wait(PATIENCE_SECONDS) == 0
    assert termios.tcgetattr(theirs) == before
    assert re.findall(rb"\x1b\[[\d;]*(?:3[0-7]|9[0-7]|[34]8;)[\d;]*m", shown) == []
    os.close(ours)
    os.close(theirs)


def read_until(terminal: int, text: bytes) -> bytes:
    """Return the output of a terminal until it contains a text."""
    shown, give_up_at = b"", monotonic() + PATIENCE_SECONDS
    while text not in shown:
        assert monotonic() < give_up_at, shown
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 65536)
    return shown

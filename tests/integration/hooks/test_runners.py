"""The runners of hooks: a server, a scheduler, once, the commands; and the examples of the project."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from popug_cli.app import LocalBackend
from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.cli.commands.operations.serve import _background_work as background_work
from popug_cli.cli.context import CommandContext, GlobalOptions
from popug_cli.cli.main import run as run_popug
from popug_cli.daemon.hook_loop import HookPoller, run_in_background, run_once
from popug_cli.kernel.errors import Unavailable
from popug_cli.kernel.log import log_error
from popug_cli.messages.hooks import HookRunResult, TryHook
from tests.support.company import InProcess, SeededChance, logged_errors
from tests.support.hooks_company import (
    KEEP,
    PATIENCE_SECONDS,
    add,
    company,
    find_hook,
    hook,
    is_gone,
    run_hooks,
    titles,
    wait_for,
)

__all__ = ["company"]

EXAMPLES = Path(__file__).parents[3] / ".github/examples/hooks"


# --- runners ------------------------------------------------------------------------------------


def test_hanging_hook_is_killed_and_run_again(
    company: InProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("popug_cli.daemon.hook_loop.POLL_SECONDS", 0.01)
    monkeypatch.setattr("popug_cli.daemon.hook_loop.GRACE_SECONDS", PATIENCE_SECONDS)
    trap = "trap '' TERM; "
    hook(
        company, "task_created", f'{trap}echo $$ > "$POPUG_HOME/child"; test -e up && exit 0; while :; do sleep 1; done'
    )
    add(company, "One")
    folder = company.backend.home.hooks

    def open_backend(progress: Any) -> LocalBackend:
        return LocalBackend(company.backend.home, clock=company.clock, randomness=SeededChance(5), progress=progress)

    with run_in_background(open_backend, folder):
        wait_for(company.root / "child")
    assert "popug-hooks" not in {thread.name for thread in threading.enumerate()}
    assert is_gone(company.root / "child")
    assert (find_hook(company).attempts, find_hook(company).state, logged_errors(caplog)) == (0, "ready", [])
    (company.root / "up").touch()
    assert run_hooks(company).done == 1


@pytest.mark.parametrize("scheduler", [False, True])
def test_server_runs_hooks_too(company: InProcess, monkeypatch: pytest.MonkeyPatch, scheduler: bool) -> None:
    monkeypatch.setattr("popug_cli.daemon.hook_loop.POLL_SECONDS", 0.01)
    path = hook(company, "task_created", f"{KEEP}; touch done")
    company.clock.instant = datetime.fromtimestamp(path.stat().st_ctime + 1, UTC)
    served_company = ServedCompany(company.backend.home, threads=2)
    with background_work(CommandContext(GlobalOptions(home=company.root), as_json=True), scheduler=scheduler)(
        lambda progress: served_company.open_backend(company.warnings.append, progress=progress)
    ):
        add(company, "One")
        wait_for(company.root / "done")
    served_company.close()
    assert titles(company) == ["One"]


def test_environment_error_is_reported_once(
    company: InProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("popug_cli.daemon.hook_loop.POLL_SECONDS", 0)
    calls: list[int] = []

    def busy(progress: Any) -> LocalBackend:
        calls.append(1)
        if len(calls) == 3:
            looks.stopping.set()
        raise Unavailable("database_busy", "Another process holds the database.")

    looks = HookPoller(busy, company.backend.home.hooks)
    looks.run()
    assert (len(calls), [error.code for error in logged_errors(caplog)]) == (3, ["database_busy"])


def test_poller_ends_silently_if_served_home_is_replaced(
    company: InProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def replaced(progress: Any) -> LocalBackend:
        raise Unavailable("server_unavailable", "The database was replaced.")

    monkeypatch.setattr("popug_cli.daemon.hook_loop.POLL_SECONDS", 0)
    HookPoller(replaced, company.backend.home.hooks).run()
    assert [error.code for error in logged_errors(caplog)] == []


def test_home_without_hooks_is_not_opened(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("popug_cli.daemon.hook_loop.POLL_SECONDS", 0)
    (company.root / "hooks").rmdir()
    looks = HookPoller(lambda progress: company.backend, company.backend.home.hooks)
    looks.poll(1)
    asked: list[float] = []

    def waited(seconds: float) -> bool:
        asked.append(seconds)
        return len(asked) > 3

    monkeypatch.setattr(looks.stopping, "wait", waited)
    monkeypatch.setattr(looks, "poll", lambda seconds: pytest.fail("it was opened"))
    looks.run()
    assert len(asked) == 4


def test_signal_ends_the_scheduler_while_a_hook_hangs(company: InProcess) -> None:
    company.clock.instant = datetime.now(UTC)
    hook(company, "task_created", "trap '' TERM; echo $$ > child; while :; do sleep 1; done")
    add(company, "One")
    line = ["--home", str(company.root), "scheduler"]
    patch = "from popug_cli.daemon import hook_loop\nhook_loop.GRACE_SECONDS = 600"
    code = f"{patch}\nimport sys\nfrom popug_cli.cli.main import run\nsys.exit(run({line!r}))"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        wait_for(company.root / "child")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert is_gone(company.root / "child")
    company.clock.instant = datetime.now(UTC)
    assert (find_hook(company).attempts, find_hook(company).state) == (0, "ready")


def test_scheduler_once_runs_hooks_and_reports_them(company: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    company.clock.instant = datetime.now(UTC)
    path = hook(company, "task_created", KEEP)
    company.clock.instant = datetime.fromtimestamp(path.stat().st_ctime + 1, UTC)
    add(company, "One")
    company.backend.close()
    assert run_popug(["--home", str(company.root), "scheduler", "--once", "--json"]) == 0
    _, line = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (line["event"], line["done"], line["failed"]) == ("hooks", 1, 0)
    assert titles(company) == ["One"]


def test_signalled_run_stops_and_event_is_run_again(company: InProcess) -> None:
    hook(company, "task_created", "test -e up && exit 0; kill -TERM $PPID; sleep 1000")
    add(company, "One")

    def open_backend(progress: Any) -> LocalBackend:
        return LocalBackend(company.backend.home, clock=company.clock, randomness=SeededChance(6), progress=progress)

    run = run_once(open_backend, company.backend.home.hooks)
    assert (run, find_hook(company).last_error) == (HookRunResult(0, 0, 0, 0), None)
    (company.root / "up").touch()
    assert (find_hook(company).attempts, run_hooks(company).done) == (0, 1)


def test_runner_error_is_its_document_on_stderr(company: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    company.backend.close()
    code = run_popug(["--home", str(company.root), "scheduler", "--once", "--json"])
    capsys.readouterr()
    log_error(Unavailable("database_busy", "It is held."))
    output = capsys.readouterr()
    assert (code, output.out, json.loads(output.err)["error"]["code"]) == (0, "", "database_busy")


# --- the commands -------------------------------------------------------------------------------


def shown(company: InProcess, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = run_popug(["--home", str(company.root), "hooks", *words])
    output = capsys.readouterr()
    return code, output.out + output.err


def test_hook_commands_print_text_and_json(company: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    code, words = shown(company, capsys, "list")
    assert (code, "There are no hooks in" in words, "task_assigned" in words) == (0, True, True)
    hook(company, "task_created", "echo $POPUG_EVENT; exit 3")
    hook(company, "any.bad", KEEP, 0o777)
    code, words = shown(company, capsys, "test", "task_created")
    assert (code, "a sample of tasks.task_created.v2" in words, "exit status 3" in words) == (0, True, True)
    add(company, "One")
    code, words = shown(company, capsys, "test", "task_created", "--json")
    assert (json.loads(words)["exit"], json.loads(words)["output"]) == (3, "task_created\n")
    for _ in range(5):
        run_hooks(company)
        company.clock.advance(hours=1)
    code, words = shown(company, capsys, "list")
    assert "any.bad is not run: other users may write to it: chmod go-w" in words
    assert "popug hooks retry task_created" in words
    assert "task_created failed: exit 3: task_created" in words
    code, words = shown(company, capsys, "list", "--json")
    assert {each["name"]: each["dead"] for each in json.loads(words)["hooks"]} == {"any.bad": 0, "task_created": 1}
    assert shown(company, capsys, "retry", "task_created") == (
        0, "1 event will be given to task_created again.\nNext: popug hooks list\n",
    )  # fmt: skip
    assert shown(company, capsys, "test", "nobody")[0] == 3
    assert shown(company, capsys, "test", "any.bad")[0] == 6


# --- the examples -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "program", "said"),
    [
        ("task_created.chat", "curl", '{"text": "New task #1: Feed \\"the\\" cage"}'),
        ("day_closed.notify", "notify-send", "--app-name=popug -- Closed 2"),
    ],
)
def test_example_works(
    company: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, program: str, said: str
) -> None:
    fake = tmp_path / "bin" / program
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\necho "$@"; test {program} = notify-send || cat\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(EXAMPLES / name, company.root / "hooks" / name)
    add(company, 'Feed "the" cage')
    trial = company.backend.perform(TryHook(name=name))
    assert trial.exit == 0, trial.output
    assert said in trial.output
    if program == "curl":
        assert f"--config {tmp_path}/.config/popug/webhook" in trial.output

"""Processes that a hook leaves behind are ended and reaped, and a lack of the machine is not its failure."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from popug_cli.kernel.errors import Unavailable
from popug_cli.messages.hooks import HookRunResult, TryHook
from popug_cli.platform import orphans
from tests.support.company import InProcess
from tests.support.hooks_company import PATIENCE_SECONDS, add, company, find_hook, hook, run_hooks, wait_for
from tests.support.namespace import PYTHON, run_in_namespace

__all__ = ["company"]

only_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems show no orphans")
KEEP = '"$POPUG_HOME/keep"'  # a program that notes its pid and stays


def keep(company: InProcess) -> None:
    (company.root / "keep").write_text('#!/bin/sh\ntrap "" TERM HUP\necho $$ >> "$POPUG_HOME/pids"\nexec sleep 300\n')
    (company.root / "keep").chmod(0o755)


def pids(company: InProcess) -> list[int]:
    return [int(line) for line in (company.root / "pids").read_text().split()]


def is_there(pid: int) -> bool:
    """Return whether a process exists, as a zombie or alive."""
    return Path(f"/proc/{pid}").exists()


def eventually(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@only_linux
@pytest.mark.parametrize(
    "leave",
    [
        f"setsid {KEEP} &",
        f"setsid -f {KEEP}",
        f"(setsid nohup {KEEP} > /dev/null 2>&1 &)",
        f"setsid sh -c 'setsid {KEEP} & {KEEP}' &",
        f"{KEEP} &",
    ],
)
@pytest.mark.parametrize("end", ["exit 0", "exit 3", "kill -9 $$", "sleep 300"])
def test_what_a_hook_leaves_running_is_ended_and_reaped(
    company: InProcess, monkeypatch: pytest.MonkeyPatch, leave: str, end: str
) -> None:
    monkeypatch.setenv("POPUG_HOOKS_TIMEOUT_SECONDS", "2")
    keep(company)
    hook(company, "task_created", f'{leave}\nuntil test -s "$POPUG_HOME/pids"; do sleep 0.05; done\n{end}')
    company.backend.perform(TryHook(name="task_created"))
    left = pids(company)
    assert left
    for pid in left:
        eventually(lambda pid=pid: not is_there(pid))  # type: ignore[misc]


@only_linux
def test_orphans_of_another_running_hook_are_left_alone(company: InProcess) -> None:
    keep(company)
    slow = f"setsid {KEEP} & until test -e go; do sleep 0.05; done; kill -0 $(cat pids)"
    hook(company, "task_created.slow", slow)
    hook(company, "task_created.quick", "until test -s pids; do sleep 0.05; done; setsid sleep 300 & touch go")
    add(company, "Feed the cage")
    assert run_hooks(company) == HookRunResult(2, 2, 0, 0)
    for pid in pids(company):
        eventually(lambda pid=pid: not is_there(pid))  # type: ignore[misc]


@only_linux
def test_other_children_are_not_reaped(company: InProcess) -> None:
    other = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    eventually(lambda: "State:\tZ" in Path(f"/proc/{other.pid}/status").read_text())
    hook(company, "task_created", "setsid sleep 300 &")
    assert company.backend.perform(TryHook(name="task_created")).exit == 0
    orphans.reap()
    assert other.wait() == 7


def test_hook_sees_its_name(company: InProcess) -> None:
    hook(company, "task_created.chat", 'echo "$POPUG_HOOK"')
    assert company.backend.perform(TryHook(name="task_created.chat")).output == "task_created.chat\n"


def test_missing_temporary_directory_is_not_the_hooks_failure(
    company: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook(company, "task_created", "cat >> got.jsonl")
    add(company, "Feed the cage")

    def no_file(*_: object) -> int:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(os, "memfd_create", no_file, raising=False)
    monkeypatch.setattr("tempfile.TemporaryFile", no_file)
    with pytest.raises(Unavailable, match="No usable temporary directory") as refused:
        run_hooks(company)
    assert refused.value.code == "hook_not_run"
    assert (find_hook(company).attempts, find_hook(company).dead) == (0, 0)
    monkeypatch.undo()
    company.clock.advance(hours=1)
    assert run_hooks(company).done == 1


@pytest.mark.parametrize(
    ("first_line", "words"),
    [(b"#!/bin/sh\r\n", "carriage return"), (b"#!/no/interpreter\n", "/no/interpreter, which does not exist")],
)
def test_missing_interpreter_is_named(company: InProcess, first_line: bytes, words: str) -> None:
    path = hook(company, "task_created", "")
    path.write_bytes(first_line + b"exit 0\n")
    tried = company.backend.perform(TryHook(name="task_created"))
    assert tried.exit == 126
    assert words in tried.output


@only_linux
def test_hook_runs_without_a_temporary_directory(company: InProcess) -> None:
    hook(company, "task_created", "cat >> got.jsonl")
    add(company, "Feed the cage")
    company.backend.close()
    script = f"""
        mount --bind {company.root} {company.root}
        mount -t tmpfs -o ro none /mnt
        mount -o remount,bind,ro / || true
        cd /mnt
        unset TMPDIR
        "$PYTHON" -m popug_cli --home {company.root} scheduler --once --json
        printf 'no login' | "$PYTHON" -m popug_cli --home {company.root} tasks import - --json 2>&1 | grep not_logged_in
        "$PYTHON" -m popug_cli demo 2>&1 | grep TMPDIR
    """
    result = run_in_namespace(script)
    assert result.returncode == 0, result
    assert "could not" not in result.stderr
    assert (company.root / "got.jsonl").exists(), result


@only_linux
def test_scheduler_as_process_1_leaves_no_zombies(company: InProcess, tmp_path: Path) -> None:
    hook(company, "task_created", "(sleep 0.2 &) ; (setsid sleep 0.1 &) ; (setsid sleep 300 &) ; cat >> got.jsonl")
    add(company, "One", "Two", "Three")
    company.backend.close()
    if run_in_namespace("true", {}, "--pid", "--fork").returncode != 0:
        pytest.skip("this system permits no namespaces of processes")
    scheduler = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child",
         PYTHON, "-m", "popug_cli", "--home", str(company.root), "scheduler"],
        stdout=(tmp_path / "out").open("w"), stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        wait_for(company.root / "got.jsonl")
        (init,) = [process for process in orphans._processes() if process.parent == scheduler.pid]
        eventually(lambda: (company.root / "got.jsonl").read_text().count('"specversion"') == 3)
        # an orphan that no hook left, as `docker exec` leaves it
        enter = ["nsenter", "--target", str(init.pid), "--pid", "--mount", "sh", "-c", "(setsid sleep 0.1 &)"]
        subprocess.run(enter, check=True)
        eventually(lambda: not [process for process in orphans._processes() if process.parent == init.pid])
        os.kill(init.pid, signal.SIGTERM)
        assert scheduler.wait(PATIENCE_SECONDS) == 0, (tmp_path / "out").read_text()
    finally:
        scheduler.kill()
        scheduler.wait()

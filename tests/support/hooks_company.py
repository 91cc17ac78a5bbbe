"""A company with hooks, and helpers for the tests of hooks."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from popug_cli.messages.hooks import Hook, HookRunResult, ListHooks, RunHooks
from popug_cli.messages.principal import SCHEDULER
from popug_cli.messages.tasks import AddTask
from tests.support.company import InProcess, SetClock
from tests.support.scheduler_fixture import create_company

KEEP = 'cat >> "$POPUG_HOME/got.jsonl"; echo >> "$POPUG_HOME/got.jsonl"'
PATIENCE_SECONDS = 60


@pytest.fixture
def company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """A company with an empty folder of hooks, whose passwords are hashed quickly."""
    monkeypatch.setenv("POPUG_IDENTITY_ARGON2_TIME_COST", "1")
    monkeypatch.setenv("POPUG_IDENTITY_ARGON2_MEMORY_KIB", "8192")
    in_process = create_company(tmp_path / "home", "UTC", SetClock(datetime.now(UTC)))
    (in_process.root / "hooks").mkdir(mode=0o755)
    return in_process


def hook(company: InProcess, name: str, script: str, mode: int = 0o755) -> Path:
    """Put a hook into the home; it gets every event from now on."""
    path = company.root / "hooks" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(mode)
    company.clock.advance(seconds=30)
    return path


def run_hooks(company: InProcess, seconds: int = 60) -> HookRunResult:
    return company.backend.perform(RunHooks(seconds=seconds), actor=SCHEDULER)


def add(company: InProcess, *titles: str) -> None:
    for title in titles:
        company.act("boss", AddTask(title=title))


def find_hook(company: InProcess, name: str = "") -> Hook:
    hooks: list[Hook] = company.backend.perform(ListHooks()).hooks
    return next(entry for entry in hooks if name in {"", entry.name})


def received(company: InProcess, file: str = "got.jsonl") -> list[dict[str, Any]]:
    path = company.root / file
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def titles(company: InProcess) -> list[str]:
    return [event["data"]["title"] for event in received(company)]


def wait_for(path: Path) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not come"
        time.sleep(0.01)


def is_gone(file: Path) -> bool:
    """Return whether a process has ended; a zombie has ended, too."""
    status = Path(f"/proc/{file.read_text().strip()}/status")
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        if not status.exists() or "State:\tZ" in status.read_text():
            return True
        time.sleep(0.01)
    return False

"""``events follow``: from now on, after the last N events on request."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

import pytest

from tests.support.installed_company import Company, Json

LIMIT_SECONDS = 60


@pytest.fixture
def company(lone_template: Company, folder: Path) -> Company:
    """Ada and Kesha, and two tasks."""
    company = lone_template.copy_to(folder)
    company.add_task("ada", "Feed the cage")
    company.add_task("ada", "Wipe the glass")
    return company


def last_sequence(company: Company) -> int:
    return int(company.ask("ada", "events", "status")["last_sequence"])


def followed(company: Company, *options: str, count: int, adds_tasks: bool = False) -> list[Json]:
    """Return the first lines that `events follow` prints; with ``adds_tasks``, add tasks until it has printed them."""
    company.be_served()
    command = [sys.executable, "-m", "popug_cli", "events", "follow", *options]
    process = subprocess.Popen(command, env=company.environment("ada"), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines, printed, output = Queue[str](), list[Json](), process.stdout
    Thread(target=lambda: [*map(lines.put, output)], daemon=True).start()
    try:
        for number in range(LIMIT_SECONDS):
            while len(printed) < count:
                try:
                    event = json.loads(lines.get(timeout=1))
                    printed.append(event | {"sequence": int(event["sequence"])})
                except Empty:
                    break
            if len(printed) >= count:
                return printed
            if adds_tasks:
                company.add_task("ada", f"Polish the perch {number}")
        raise AssertionError(printed)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(LIMIT_SECONDS)


@pytest.mark.parametrize("options", [(), ("--last", "0"), ("--type", "task_created")])
def test_follow_begins_with_the_next_event(company: Company, options: tuple[str, ...]) -> None:
    end = last_sequence(company)
    printed = followed(company, *options, count=2, adds_tasks=True)
    assert printed[0]["sequence"] > end
    assert [event["sequence"] for event in printed] == sorted(event["sequence"] for event in printed)


def test_follow_begins_with_the_last_events_on_request(company: Company) -> None:
    end = last_sequence(company)
    assert [event["sequence"] for event in followed(company, "--last", "3", count=3)] == [end - 2, end - 1, end]
    created = followed(company, "--type", "task_created", "--last", "2", count=2)
    titles = [event["data"]["title"] for event in created]
    assert titles == [task["title"] for task in company.tasks()[-2:]]
    for number in ("99999", str(2**63), str(10**30)):
        assert followed(company, "--last", number, count=1)[0]["sequence"] == 1
    assert followed(company, "--after", "2", count=1)[0]["sequence"] == 3

"""A command does all the work that it causes, and only a part of the work that earlier commands left."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from popug_cli.app import LocalBackend
from popug_cli.bus import catch_up, consumers
from popug_cli.messages.tasks import AddTask, ImportTasks, NewTask, ShuffleTasks
from tests.support.company import InProcess

TASKS = 60


@pytest.fixture
def company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """A company whose consumers process ten events a batch, and whose commands have time for one batch of others."""
    made = InProcess(tmp_path / "home")
    made.hire("kesha")
    ticks = iter(range(1, 1_000_000))
    monkeypatch.setattr(consumers, "BATCH_EVENTS", 10)
    monkeypatch.setattr(catch_up, "time", SimpleNamespace(monotonic=lambda: 10.0 * next(ticks)))
    return made


def lag(company: InProcess) -> int:
    """Return how many events the consumers have yet to process."""
    return sum(
        company.rows(
            f"SELECT count(*) AS count FROM bus_log WHERE type IN {consumer.types} AND sequence >"
            f" coalesce((SELECT position FROM bus_cursors WHERE consumer = '{consumer.name}'), 0)"
        )[0]["count"]
        for consumer in company.backend.consumers
    )


def test_import_and_shuffle_leave_no_work(company: InProcess) -> None:
    company.act("boss", ImportTasks(lines=[NewTask(title=f"Task {number}") for number in range(TASKS)]))
    assert lag(company) == 0
    company.act("boss", ShuffleTasks())
    assert lag(company) == 0
    assert company.warnings == []


def test_later_command_does_a_part_of_what_is_left(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as interrupted:
        interrupted.setattr(LocalBackend, "catch_up", lambda *_, **__: None)
        company.act("boss", ImportTasks(lines=[NewTask(title=f"Task {number}") for number in range(TASKS)]))
    assert lag(company) > TASKS
    positions = {row["consumer"]: row["position"] for row in company.rows("SELECT * FROM bus_cursors")}
    added = company.act("kesha", AddTask(title="Feed the cage"))
    assert added.title == "Feed the cage"
    assert lag(company) > 0
    [billing] = company.rows("SELECT position FROM bus_cursors WHERE consumer = 'billing'")
    assert billing["position"] > positions["billing"]
    assert [warning.partition(";")[0] for warning in company.warnings] == ["More events wait to be processed"]

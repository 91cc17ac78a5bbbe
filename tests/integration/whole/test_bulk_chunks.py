"""Bulk commands work in batches: all or nothing, in memory that does not grow with the input."""

import os
import sqlite3
import tracemalloc
from collections import Counter, deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from popug_cli.app import LocalBackend
from popug_cli.bus import publisher
from popug_cli.cli.input import import_lines as files
from popug_cli.cli.input.import_lines import ImportLines, open_import
from popug_cli.client import remote_backend, requests
from popug_cli.client.address import parse
from popug_cli.identity import commands as identity
from popug_cli.kernel.errors import InvalidInput, Unavailable
from popug_cli.kernel.progress import Progress, no_progress
from popug_cli.messages.base import Command
from popug_cli.messages.identity import ActivateUser, DeactivateUser, ImportUsers, ListUsers, NewPerson
from popug_cli.messages.tasks import ImportTasks, NewTask, ShuffleTasks, TaskAssigned, VerifyShuffle
from popug_cli.storage.disk_counter import count_on_disk
from popug_cli.tasks import assignments, commands
from tests.support.company import InProcess
from tests.support.tasks_company import ALL, company_at, events, refused

PORTION = 3
MANY = 10


@pytest.fixture
def company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """A company of a boss and three workers with batches of three."""
    monkeypatch.setattr(assignments, "TASKS_AT_ONCE", PORTION)
    monkeypatch.setattr(commands, "TASKS_AT_ONCE", PORTION)
    monkeypatch.setattr(identity, "USERS_PER_CHUNK", PORTION)
    company = company_at(tmp_path / "home")
    for name in ("gosha", "lara"):
        company.hire(name)
    return company


def watched(company: InProcess) -> list[tuple[str, int, int]]:
    """Record the progress of the company's work from now on."""
    reported: list[tuple[str, int, int]] = []
    show_to(company, lambda label, done, total: reported.append((label, done, total)))
    return reported


def show_to(company: InProcess, progress: Progress) -> None:
    """Report the progress of the company's work to a callback from now on."""
    home, warn, clock, chance = company.backend.home, company.warnings.append, company.clock, company.chance
    company.backend = LocalBackend(home, warn=warn, clock=clock, randomness=chance, progress=progress)


def chores(count: int) -> list[NewTask | None]:
    return [NewTask(title=f"Chore {number}") for number in range(1, count + 1)]


def newcomer(name: str, email: str = "", role: str = "worker") -> NewPerson:
    return NewPerson(username=name, email=email or f"{name}@example.com", role=role)


def test_import_over_portions_is_one_import(company: InProcess) -> None:
    reported = watched(company)
    lines = [NewTask(title="Feed"), None, NewTask(title="Mend", jira_id="P-1"), *chores(4), NewTask(title="Feed")]
    again = [NewTask(title="mend", jira_id="P-1"), NewTask(title="Chore 1"), NewTask(title="Feed")]
    done = company.act("kesha", ImportTasks(lines=[*lines, *again]))
    assert (done.imported, done.skipped) == (9, 1)
    tasks = company.act("kesha", ALL).tasks
    assert [task.number for task in tasks] == [*range(1, 10)]
    assert Counter(task.title for task in tasks) == Counter(
        {"Feed": 3, "Mend": 1, "Chore 1": 2, "Chore 2": 1, "Chore 3": 1, "Chore 4": 1}
    )
    assert len({event.data.draw.seed for event in events(company, TaskAssigned)}) == 1
    assert reported[:4] == [("Creating tasks", done, len(lines) + len(again)) for done in (3, 6, 9, 10)]
    done = company.act("kesha", ImportTasks(lines=[*lines, *again]))
    assert (done.imported, done.skipped) == (0, 10)


def test_bad_line_is_refused_before_any_task_is_created(company: InProcess) -> None:
    reported = watched(company)
    error = refused(company, "kesha", ImportTasks(lines=[*chores(MANY), NewTask(title="[bad")]))
    assert (error.code, error.details["line"]) == ("invalid_title", MANY + 1)
    assert reported == []


def test_people_are_imported_over_portions(company: InProcess) -> None:
    reported = watched(company)
    lines = [newcomer("polly"), newcomer("vera"), None, newcomer("Kesha"), newcomer("POLLY"), newcomer("zed")]
    done = company.act("boss", ImportUsers(people=lines))
    assert (done.imported, done.skipped) == (3, 2)
    assert reported[:2] == [("Registering people", done, len(lines)) for done in (3, 5)]
    assert [user.username for user in company.act("boss", ListUsers()).users] == [
        "boss",
        "gosha",
        "kesha",
        "lara",
        "polly",
        "vera",
        "zed",
    ]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (newcomer("polly", "other@example.com"), "username_taken"),
        (newcomer("zed", "Polly@example.com"), "email_taken"),
        (newcomer("kesha", role="manager"), "username_taken"),
        (newcomer("z d"), "invalid_username"),
        (newcomer("zed", "zed\ud800@example.com"), "invalid_email"),
        (newcomer("zed\ud800"), "invalid_username"),
    ],
)
def test_first_bad_line_of_users_is_refused_and_none_added(company: InProcess, bad: NewPerson, code: str) -> None:
    people = [newcomer("polly"), newcomer("vera"), newcomer("yuri"), newcomer("wanda"), bad, newcomer("not good")]
    error = refused(company, "boss", ImportUsers(people=people))
    assert (error.code, error.details["line"]) == (code, 5)
    assert len(company.act("boss", ListUsers()).users) == 4


def test_shuffle_over_portions_draws_once_for_each_open_task(company: InProcess) -> None:
    company.act("kesha", ImportTasks(lines=chores(MANY)))
    reported = watched(company)
    shuffle = company.act("boss", ShuffleTasks())
    assert reported[:4] == [("Shuffling", done, MANY) for done in (3, 6, 9, MANY)]
    drawn = [event.data for event in events(company, TaskAssigned) if event.data.shuffle_id == shuffle.shuffle_id]
    assert sorted(assignment.subject for assignment in drawn) == sorted(
        task["task_id"] for task in company.rows("SELECT task_id FROM tasks_tasks")
    )
    check = company.act("boss", VerifyShuffle(shuffle_id=shuffle.shuffle_id))
    assert (shuffle.task_count, check.checked, check.different) == (MANY, MANY, [])


def test_all_tasks_of_a_deactivated_user_are_reassigned(company: InProcess) -> None:
    for name in ("gosha", "lara"):
        company.act("boss", DeactivateUser(username=name))
    company.act("kesha", ImportTasks(lines=chores(MANY)))
    company.hire("vera")
    reported = watched(company)
    company.act("boss", DeactivateUser(username="kesha"))
    assert {task.assignee for task in company.act("boss", ALL).tasks} == {"vera"}
    assert reported[:4] == [("Reassigning", done, MANY) for done in (3, 6, 9, MANY)]
    assert len(events(company, TaskAssigned)) == 2 * MANY


def test_full_disk_while_counting_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def small(place: str, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(place, **options)
        connection.execute("PRAGMA max_page_count = 5")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    monkeypatch.setenv("SQLITE_TMPDIR", "/dev/shm")
    with pytest.raises(Unavailable, match=r"^The disk is full .* /dev/shm\)\.$"), count_on_disk() as times_seen:
        deque(map(times_seen, map(str, range(10_000))), maxlen=0)


@pytest.fixture
def written(tmp_path: Path) -> Iterator[ImportLines[NewTask]]:
    file = tmp_path / "tasks.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"title": "Feed"}\n\n{"title": "Mend"}')
    with open_import(str(file), NewTask) as lines:
        yield lines


def test_lines_of_a_file_can_be_gone_through_again(written: ImportLines[NewTask]) -> None:
    assert len(written) == 3
    assert [*written] == [*written] == [NewTask(title="Feed"), None, NewTask(title="Mend")]
    assert NewTask(title="Mend") in written
    assert NewTask(title="Oil") not in written


def test_pipe_is_kept_until_it_was_read_twice(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as end:
        end.write(b'{"title": "Feed"}\n')
    with open_import(f"/dev/fd/{reading}", NewTask) as lines:
        assert [*lines] == [*lines] == [NewTask(title="Feed")]
    os.close(reading)


def test_overlong_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 17)
    file = tmp_path / "tasks.jsonl"
    file.write_text('{"title":"Feed"}\n{"title":"Feeds"}\n')
    with (
        pytest.raises(InvalidInput, match=r"^Line 2 is not valid: it has more than 17 bytes\.$"),
        open_import(str(file), NewTask),
    ):
        pass


def test_import_over_the_server_limit_is_not_sent(
    written: ImportLines[NewTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = remote_backend.RemoteBackend(parse("unix:///nowhere.sock"))
    with pytest.raises(Unavailable, match="No server can be reached"):
        backend.perform(ImportTasks(lines=written), "t")
    monkeypatch.setattr(requests, "MAX_MESSAGE_BYTES", 50)
    with pytest.raises(InvalidInput, match="larger than 50 bytes") as caught:
        backend.perform(ImportTasks(lines=written), "t")
    assert caught.value.hint == "Import it in several files, or on the machine of the server."


def test_full_disk_while_reading_a_pipe_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", partial(open, "/dev/full", "wb"))
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as end:
        end.write(b'{"title": "Feed"}\n')
    with pytest.raises(Unavailable, match=r"^The disk is full \("), open_import(f"/dev/fd/{reading}", NewTask):
        pass
    os.close(reading)


def test_memory_does_not_grow_with_ten_times_the_tasks(company: InProcess, tmp_path: Path, monkeypatch: Any) -> None:
    """Measure the peak memory of Python while a command creates or reassigns tasks."""
    monkeypatch.setattr(publisher, "BUFFER_EVENTS", PORTION)
    for name in ("gosha", "lara"):
        company.act("boss", DeactivateUser(username=name))
    few, many = (list(_peaks_kib(company, tmp_path / str(count), count)) for count in (300, 3_000))
    assert [label for label, _ in few] == [label for label, _ in many] == ["Creating tasks", "Shuffling", "Reassigning"]
    for (label, needed), (_, before) in zip(many, few, strict=True):
        assert needed < before + 100, label


def _peaks_kib(company: InProcess, file: Path, count: int) -> Iterator[tuple[str, float]]:
    file.write_text("".join(f'{{"title": "Clean cage {number} of {count}"}}\n' for number in range(count)))
    with open_import(str(file), NewTask) as lines:
        yield _peak_kib(company, "kesha", ImportTasks(lines=lines))
    yield _peak_kib(company, "boss", ShuffleTasks())
    company.hire(f"heir-{count}")
    yield _peak_kib(company, "boss", DeactivateUser(username="kesha"))
    company.act("boss", ActivateUser(username="kesha"))
    company.act("boss", DeactivateUser(username=f"heir-{count}"))


def _peak_kib(company: InProcess, by: str, message: Command[Any]) -> tuple[str, float]:
    """Return the first work whose progress a command reports, and its peak memory."""
    peaks: dict[str, float] = {}

    def note(label: str, done: int, total: int) -> None:
        if done == total and label not in peaks:
            peaks[label] = tracemalloc.get_traced_memory()[1] / 1024

    show_to(company, note)
    tracemalloc.start()
    company.act(by, message)
    tracemalloc.stop()
    show_to(company, no_progress)
    return next(iter(peaks.items()))

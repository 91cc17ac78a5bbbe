"""`today` and `tasks list` at a terminal: different events read differently, and each hint is a command that works."""

from pathlib import Path

import pytest

from popug_cli.cli.main import run
from popug_cli.kernel.clock import SystemClock
from popug_cli.messages.identity import DeactivateUser, IssueToken, Scope
from popug_cli.messages.tasks import AddTask, CompleteTask, ListTasks, ShuffleTasks
from tests.support.company import InProcess

LONG_TITLE = "Polish the " + "very " * 30 + "long perch"
LONG_NAME = "sir.percival-of-the-golden-perch"


@pytest.fixture
def company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """Kesha and a user with a long name; the home of the command line."""
    company = InProcess(tmp_path / "home")
    company.clock.instant = SystemClock().now()
    company.hire("kesha")
    company.hire(LONG_NAME)
    monkeypatch.setenv("POPUG_HOME", str(company.root))
    monkeypatch.setenv("POPUG_SESSION", str(tmp_path / "session.json"))
    return company


def shown(
    company: InProcess, name: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    token = company.act("boss", IssueToken(username=name, ttl_seconds=86400)).token
    monkeypatch.setenv("POPUG_TOKEN", token)
    assert run(line.split()) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("name", ["kesha", LONG_NAME])
def test_today_tells_received_from_completed(
    company: InProcess,
    columns: int,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for _ in range(12):
        company.act("boss", AddTask(title=LONG_TITLE))
    for _ in range(2):
        company.act("boss", ShuffleTasks())
    own = company.act(name, ListTasks(assignee=name)).tasks[0]
    company.act(name, CompleteTask(number=own.number))
    text = shown(company, name, "today --peek", monkeypatch, capsys)
    lines = [line for line in text.partition("What happened")[2].splitlines() if "#" in line]
    assert lines
    verbs = ("given to you", "yours again", "went to", "completed")
    assert all(sum(verb in line for verb in verbs) == 1 for line in lines), text
    assert [line for line in lines if "completed" in line and f"#{own.number} " in line], text
    assert max(map(len, lines)) <= columns


def test_list_of_other_users_tasks_suggests_no_completion(
    company: InProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = company.act("boss", AddTask(title="Feed the cage"))
    for name in ("boss", "kesha", LONG_NAME):
        text = shown(company, name, f"tasks list --assignee {task.assignee}", monkeypatch, capsys)
        assert "task complete" not in text
    assert f"popug task complete {task.number}" in shown(company, task.assignee, "tasks list", monkeypatch, capsys)


@pytest.mark.parametrize("line", ["today --peek", "tasks list"])
@pytest.mark.parametrize("role", ["manager", "admin"])
def test_no_new_task_is_suggested_while_none_can_hold_it(
    company: InProcess, line: str, role: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    company.hire("mira", role)
    for name in ("kesha", LONG_NAME):
        company.act("boss", DeactivateUser(username=name))
    text = shown(company, "mira", line, monkeypatch, capsys)
    assert "task add" not in text
    assert ("user add" in text) is (role == "admin" and line.startswith("today"))


def test_hint_of_an_empty_list_is_commands_alone(
    company: InProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (hint,) = [
        line for line in shown(company, "boss", "tasks list", monkeypatch, capsys).splitlines() if "Next" in line
    ]
    for command in hint.removeprefix("Next: popug ").split(", or popug "):
        assert run(command.split()) == 0


def test_sentences_of_one_person_and_one_task(
    company: InProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    company.act("boss", DeactivateUser(username=LONG_NAME))
    company.act("boss", AddTask(title="Feed the cage"))
    text = shown(company, "boss", "tasks shuffle --yes", monkeypatch, capsys)
    assert "Shuffled 1 task among 1 person." in text
    assert "In the red         1 person" in shown(company, "boss", "analytics", monkeypatch, capsys)
    assert "1 task; fees" in shown(company, "boss", "tasks list --all", monkeypatch, capsys)


@pytest.mark.parametrize("scope", [Scope.CLOSE_DAY, None])
def test_token_of_a_machine_gets_no_hint_that_it_may_not_follow(
    company: InProcess, scope: Scope | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    company.hire("asya", "accountant")
    task = company.act("boss", AddTask(title="Feed the cage"))
    company.act(task.assignee, CompleteTask(number=task.number))
    token = company.act("boss", IssueToken(username="asya", ttl_seconds=86400, scope=scope)).token
    monkeypatch.setenv("POPUG_TOKEN", token)
    assert run(["close-day", "--yes"]) == 0
    assert ("Next: " in capsys.readouterr().out) is (scope is None)

"""Completion: the candidates for each user, and the words that bash, zsh and fish get."""

import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from popug_cli.app import LocalBackend
from popug_cli.app.views import shell_completion
from popug_cli.cli.help.shell_completion import answer, candidates
from popug_cli.cli.help.shell_scripts import SCRIPTS
from popug_cli.cli.main import run
from popug_cli.kernel.clock import SystemClock
from popug_cli.kernel.home import Home
from popug_cli.messages.identity import IssueToken, Scope
from popug_cli.messages.tasks import AddTask, CompleteTask, ShuffleTasks
from tests.support.company import InProcess, SetClock
from tests.support.identity_company import CHEAP
from tests.support.shell_session import COMMANDS, ShellSession

EVIL = "$(touch owned) `touch owned` \"quoted\" 'titles' : ; (x)"


@dataclass
class Office:
    """A company and the tokens of its users."""

    root: Path
    tokens: dict[str, str]
    shuffle_id: str


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    """A company of Boss, Asya the accountant and Kesha the worker: eleven tasks, of which #1 is completed."""
    root = tmp_path_factory.mktemp("office") / "home"
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in CHEAP.items():
            patch.setenv(variable, value)
        company = InProcess(root, clock=SetClock(SystemClock().now()))
        company.hire("kesha")
        company.act("boss", AddTask(title="Feed the cage"))
        company.act("kesha", CompleteTask(number=1))
        for _ in range(9):
            company.act("boss", AddTask(title="Polish the perch"))
        company.act("boss", AddTask(title=EVIL))
        shuffle_id = company.act("boss", ShuffleTasks()).shuffle_id
        company.hire("asya", "accountant")
        tokens = {
            name: company.act("boss", IssueToken(username=name, ttl_seconds=3600)).token
            for name in ("boss", "kesha", "asya")
        }
        tokens["machine"] = company.act(
            "boss", IssueToken(username="asya", ttl_seconds=3600, scope=Scope.CLOSE_DAY)
        ).token
        company.backend.close()
    return Office(root, tokens, shuffle_id)


@pytest.fixture
def seat(office: Office, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Office:
    """Log Kesha in."""
    monkeypatch.setenv("POPUG_HOME", str(office.root))
    monkeypatch.setenv("POPUG_SESSION", str(tmp_path / "session.json"))
    monkeypatch.setenv("POPUG_TOKEN", office.tokens["kesha"])
    monkeypatch.delenv("POPUG_SERVER", raising=False)
    monkeypatch.chdir(tmp_path)
    return office


def offered(line: str) -> list[str]:
    *before, word = line.split(" ")
    return [text for text, _ in candidates(before, word)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("tas", ["task", "tasks"]),
        ("task ", ["add", "complete", "show"]),
        ("tasks li", ["list"]),
        ("tasks list --st", ["--status"]),
        ("tasks list --status ", ["open", "completed", "all"]),
        ("tasks list --status c", ["completed"]),
        ("tasks list --status=c", ["--status=completed"]),
        ("tasks list --mine --mi", []),
        ("--json task c", ["complete"]),
        ("--home /nowhere task c", ["complete"]),
        ("task add --", ["--jira", "--json", "--plain", "--home", "--server", "--help"]),
        ("task add -- --", []),
        ("config set mail.tr", ["mail.transport"]),
        ("config set mail.transport ", ["maildir", "smtp"]),
        ("config set mail.summary t", ["true"]),
        ("config set nothing ", []),
        ("events list --type task_a", ["task_assigned"]),
        ("tasks list --since mon", ["monday"]),
        ("close-day --date mon", []),
        ("serve --group ", []),
        ("hooks test ", []),
        ("user add kesha --role w", ["worker"]),
        ("user set-role kesha acc", ["accountant"]),
        ("init --time-zone Europe/Berl", ["Europe/Berlin"]),
        ("init --time-zone Fact", []),
        ("statement --from yes", ["yesterday"]),
        ("nothing of that ", []),
        ("scheduler ins", ["install"]),
    ],
)
def test_commands_and_options_complete_without_a_company(
    line: str, words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("POPUG_HOME", str(tmp_path / "nowhere"))
    assert sorted(offered(line)) == sorted(words)


def test_dates_are_offered_as_they_are_typed() -> None:
    days = offered("close-day --date ")
    assert days[:2] == ["today", "yesterday"]
    assert len([day for day in days if len(day) == 10]) == 7


def test_file_names_are_left_to_the_shell(seat: Office) -> None:
    Path("chores.jsonl").touch()
    assert offered("tasks import ") == []


def test_task_complete_offers_own_open_tasks(seat: Office) -> None:
    assert offered("task complete ") == [str(number) for number in range(2, 12)]
    assert offered("task complete 1") == ["10", "11"]
    assert candidates(["task", "complete"], "10") == [("10", "Polish the perch")]


def test_task_show_offers_all_tasks_latest_first(seat: Office) -> None:
    assert offered("task show ") == [str(number) for number in range(11, 0, -1)]
    assert offered("task show 1") == ["1", "11", "10"]
    assert offered("task show x") == []
    assert offered("tasks verify ") == [seat.shuffle_id]
    assert offered("events trace 1") == ["1", "11", "10"]


def test_hooks_are_the_files_in_their_folder(seat: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (home / "hooks").mkdir(parents=True)
    for name in ("task_assigned", "any.chat", ".hidden"):
        (home / "hooks" / name).touch()
    assert offered(f"--home {home} hooks test ") == ["any.chat", "task_assigned"]
    assert offered(f"hooks retry --home {home} t") == ["task_assigned"]


def test_users_complete_only_if_visible(seat: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    assert offered("tasks list --assignee ") == ["asya", "kesha"]
    assert offered("user show ") == ["asya", "kesha"]
    monkeypatch.setenv("POPUG_TOKEN", seat.tokens["boss"])
    assert offered("user show ") == ["asya", "boss", "kesha"]
    assert offered("balance k") == ["kesha"]


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c", "a.e30.c", "a.bnVsbA.c", "\udcff"])
def test_invalid_token_completes_nothing_and_prints_nothing(
    seat: Office, token: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POPUG_TOKEN", token)
    ask(monkeypatch, "popug task show ", 3)
    assert capfd.readouterr() == ("", "")


def test_scoped_token_completes_nothing(seat: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPUG_TOKEN", seat.tokens["machine"])
    assert offered("task show ") == []


def test_damaged_home_or_session_offers_nothing(
    seat: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "popug.db").write_bytes(b"no database" * 100)
    monkeypatch.setenv("POPUG_HOME", str(tmp_path))
    ask(monkeypatch, "popug task show ", 3)
    monkeypatch.setenv("POPUG_HOME", str(seat.root))
    monkeypatch.delenv("POPUG_TOKEN")
    (tmp_path / "session.json").write_text("{")
    ask(monkeypatch, "popug task show ", 3)
    assert capfd.readouterr() == ("", "")


def test_server_completes_and_a_silent_one_offers_nothing(
    seat: Office, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    backend = LocalBackend(Home(seat.root))
    assert [number for number, _ in shell_completion.from_server(backend, seat.tokens["kesha"], "own-task", "1")] == [
        "10",
        "11",
    ]
    assert shell_completion.from_server(backend, seat.tokens["kesha"], "task", "3") == [("3", "Polish the perch")]
    assert shell_completion.from_server(backend, seat.tokens["boss"], "player", "b") == [("boss", "")]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(shell_completion, "SERVER_TIMEOUT_SECONDS", 0.1)
        monkeypatch.setenv("POPUG_SERVER", f"http://127.0.0.1:{silent.getsockname()[1]}")
        ask(monkeypatch, "popug task show ", 3)
    assert capfd.readouterr() == ("", "")


def ask(monkeypatch: pytest.MonkeyPatch, line: str, word: int) -> None:
    for name, value in {"_POPUG_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(word)}.items():
        monkeypatch.setenv(name, value)
    assert run([]) == 0


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"_POPUG_COMPLETE": "complete_tcsh"},
        {"_POPUG_COMPLETE": "complete_bash"},
        {"_POPUG_COMPLETE": "complete_bash", "COMP_WORDS": "popug 'task", "COMP_CWORD": "x"},
        {"_POPUG_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": ""},
    ],
)
def test_invalid_completion_request_prints_no_traceback(environment: dict[str, str]) -> None:
    assert "Traceback" not in answer(environment)


def test_typer_script_gets_no_words_that_a_shell_would_run(seat: Office) -> None:
    asked = {"_POPUG_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "popug task show "}
    script = answer(asked)
    assert script.startswith("_arguments '*: :((11 10 9")
    assert "touch" not in script


@pytest.mark.parametrize("shell", COMMANDS)
def test_shell_shows_the_numbers_of_tasks_and_runs_no_title(shell: str, seat: Office, tmp_path: Path) -> None:
    session = ShellSession(shell, tmp_path / "session")
    try:
        assert session.called_with("popug tasks expo") == ["tasks", "export"]
        shown = session.type("popug task complete 1\t\t", until="11")
    finally:
        session.close()
    assert "10" in shown, shown
    assert "11" in shown, shown
    assert not [*tmp_path.rglob("owned")]


def test_bash_gets_only_words_that_need_no_quotes(
    seat: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / "hooks").mkdir(parents=True)
    for name in ("any.$(touch owned)", "any.a b", "any.*", "any.chat"):
        (home / "hooks" / name).touch()
    line = f"popug --home {home} hooks test "
    assert answer({"_POPUG_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "5"}) == "any.chat\n"


@pytest.mark.parametrize(
    ("words", "index", "completions"),
    [
        ("popug tasks list --status = o", 5, "open\n"),
        ("popug tasks list --status =", 4, "open\ncompleted\nall\n"),
        ("popug tasks list --status=o", 3, "--status=open\n"),
        ("popug tasks list --sort = age --status = c", 8, "completed\n"),
        ("popug tasks list --sort = age --al", 6, "--all\n"),
        ("popug --server = http : //localhost:80 tasks expo", 7, "export\n"),
        ("popug --server http : //localhost : 80 task comp", 8, "complete\n"),
        ("popug scheduler --at 00 : 05 --on", 6, "--once\n"),
        ("popug = ", 2, ""),
        ("popug = =", 2, ""),
    ],
)
def test_bash_splits_an_option_from_its_value(words: str, index: int, completions: str) -> None:
    asked = {"_POPUG_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(index)}
    assert answer(asked) == completions


@pytest.mark.parametrize("folder", ["o'brien", "a b", "$(touch pwned)"])
def test_start_up_line_names_any_home(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / folder
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    assert run(["--install-completion", "bash"]) == 0
    shown = ["bash", "--norc", "-c", f'. "{home / ".bashrc"}"; complete -p popug'.replace("$", "\\$")]
    done = subprocess.run(shown, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "_popug_completion popug" in done.stdout, done.stderr
    assert not (tmp_path / "pwned").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can write to the home directory of another account")
@pytest.mark.parametrize("shell", SCRIPTS)
def test_completion_is_not_installed_for_others(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    os.chown(tmp_path, 4242, 4242)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run(["--json", "--install-completion", shell]) == 8
    assert "uid 4242" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shell", SCRIPTS)
def test_completion_script_is_valid_and_installed_for_shell(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for _ in range(2):
        assert run(["--install-completion", shell]) == 0
    assert f"Installed completion for {shell}" in capsys.readouterr().out
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert [file.read_text() for file in files if "popug" in file.name] == [SCRIPTS[shell]]
    starts = [file.read_text() for file in files if file.name.endswith("rc")]
    assert all(text.count("\n") == 1 for text in starts)
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=SCRIPTS[shell], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--show-completion", "tcsh"]) == 2
    assert "bash, zsh or fish" in capsys.readouterr().err

"""Completion in bash, zsh and fish: a user types a part of a line, and popug is called with whole arguments."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.shell_session import COMMANDS, ShellSession

NAMES = [
    "a$(touch pwned).jsonl",
    "b`touch pwned`.jsonl",
    "c d  e.jsonl",
    "f;touch pwned;.jsonl",
    "g\"h'i.jsonl",
    "j&touch pwned&.jsonl",
    "k|touch pwned.jsonl",
    "l>pwned.jsonl",
    "m*?[x].jsonl",
    "n\\o.jsonl",
    "p!!.jsonl",
    "q$HOME.jsonl",
    "r{1,2}~#.jsonl",
    "ü ё.jsonl",
]


@pytest.fixture(params=COMMANDS)
def session(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ShellSession]:
    """Each shell, in a folder without a company."""
    monkeypatch.setenv("POPUG_HOME", str(tmp_path / "nowhere"))
    session = ShellSession(request.param, tmp_path)
    yield session
    session.close()


def test_completed_file_name_is_one_argument(session: ShellSession) -> None:
    for name in NAMES:
        (session.folder / name).touch()
    called = {name: session.called_with(f"popug tasks import {name[0]}")[2] for name in NAMES}
    assert called == {name: name for name in NAMES}, session.shown
    assert sorted(path.name for path in session.folder.iterdir()) == sorted(NAMES)


def test_file_name_in_folder_with_blanks_is_one_argument(session: ShellSession) -> None:
    (session.folder / "my $(touch pwned) files").mkdir()
    (session.folder / "my $(touch pwned) files" / "the tasks.jsonl").touch()
    session.type("popug tasks import my\t")
    assert session.called_with("th") == ["tasks", "import", "my $(touch pwned) files/the tasks.jsonl"]
    assert not (session.folder / "pwned").exists()


def test_open_quotation_is_completed_without_running_it(session: ShellSession) -> None:
    (session.folder / "a$(touch pwned) `touch pwned`.jsonl").touch()
    assert session.called_with('popug tasks import "a')[2:] == ["a$(touch pwned) `touch pwned`.jsonl"]
    assert session.called_with("popug tasks import 'a")[2:] == ["a$(touch pwned) `touch pwned`.jsonl"]
    assert not (session.folder / "pwned").exists()


def test_value_after_an_equals_sign_is_completed(session: ShellSession) -> None:
    (session.folder / "out $(touch pwned).jsonl").touch()
    assert session.called_with("popug tasks list --status=op") == ["tasks", "list", "--status=open"]
    assert session.called_with("popug tasks list --status op") == ["tasks", "list", "--status", "open"]
    assert session.called_with("popug tasks list --status=open --sort=re") == [
        "tasks", "list", "--status=open", "--sort=reward",
    ]  # fmt: skip
    assert session.called_with("popug --json init --time-zone=Etc/GMT+1")[:2] == ["--json", "init"]
    assert session.called_with("popug tasks export --out=ou") == ["tasks", "export", "--out=out $(touch pwned).jsonl"]
    assert not (session.folder / "pwned").exists()


def test_words_are_completed_in_the_middle_of_a_line(session: ShellSession) -> None:
    assert session.called_with("popug tasks expo") == ["tasks", "export"]
    assert session.called_with("popug tasks list --status=open --al") == ["tasks", "list", "--status=open", "--all"]
    assert session.called_with("popug --server=http://localhost:80 tasks expo")[1:] == ["tasks", "export"]
    assert session.called_with("popug --server http://localhost:80 tasks expo")[2:] == ["tasks", "export"]

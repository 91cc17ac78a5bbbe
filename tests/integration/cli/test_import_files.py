"""The files that an import reads: JSON lines, a JSON array, CSV, plain text; marks, UTF-16 and unknown fields."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from popug_cli.cli.input.import_lines import open_import
from popug_cli.cli.main import run
from popug_cli.kernel.errors import InvalidInput
from popug_cli.messages.identity import IssueToken, ListUsers, NewPerson
from popug_cli.messages.tasks import NewTask
from tests.support.company import InProcess
from tests.support.tasks_company import ALL, company_at

FEED, MEND = NewTask(title="Feed, the cage"), NewTask(title="Mend", jira_id="P-1")
FILES: dict[str, str] = {
    "lines.jsonl": '{"title": "Feed, the cage"}\n{"title": "Mend", "jira_id": "P-1"}\n',
    "windows.jsonl": '{"title": "Feed, the cage"}\r\n{"title": "Mend", "jira_id": "P-1"}',
    "array.json": ' [{"title": "Feed, the cage"},\n {"title": "Mend", "jira_id": "P-1"}]',
    "pretty.json": '[\n  {\n    "title": "Feed, the cage"\n  },\n  {"title": "Mend", "jira_id": "P-1"}\n]\n',
    "comma.csv": 'Title,Jira ID\n"Feed, the cage",\nMend,P-1\n',
    "semicolon.csv": "jira_id;title\r\n;Feed, the cage\r\nP-1;Mend\r\n",
    "tab.csv": "\ntitle\tjira-id\nFeed, the cage\t\n\nMend\tP-1\n",
}


def read(file: Path) -> list[NewTask | None]:
    with open_import(str(file), NewTask, plain_field="title") as lines:
        assert len(lines) == len([*lines])
        return [*lines]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", FILES)
def test_each_format_is_read(name: str, encoding: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(FILES[name].encode(encoding))
    assert [line for line in read(file) if line] == [FEED, MEND]


def test_record_of_csv_has_the_number_of_its_line(tmp_path: Path) -> None:
    file = tmp_path / "tasks.csv"
    file.write_text('title,notes\nFeed,"one\ntwo"\n\n"Mend","x"\n')
    assert read(file) == [None, NewTask(title="Feed"), None, None, NewTask(title="Mend")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_plain_text_is_a_title_a_line(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "tasks.txt"
    file.write_bytes("[POPUG-7] Feed\r\n\r\n Mend, then oil \r\n\u2605 Oil".encode(encoding))
    assert read(file) == [
        NewTask(title="[POPUG-7] Feed"),
        None,
        NewTask(title="Mend, then oil"),
        NewTask(title="\u2605 Oil"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.jsonl", b"Feed the cage\n", 1),
        ("a.json", b"title\nFeed\n", 1),
        ("a.txt", b'{"title": "Feed"}\nMend\n', 2),
        ("a.json", b'[{"title": "Feed"}, 7]', 2),
        ("a.json", b'[{"title": "Feed"}', 1),
        ("a.csv", b"title,jira_id\nFeed,P-1,more\n", 2),
        ("a.csv", b"Summary,Key\nFeed,P-1\n", 1),
        ("a.TSV", b"Feed\tP-1\n", 1),
        ("a.csv", b'title\n"Feed\nthe" cage"\n', 3),
        ("a.csv", b"title,jira_id\nFeed,P-1\n,P-2\n", 3),
        ("a.txt", b"Feed\n\xff\xffMend\n", 2),
        ("a.csv", b"title\nFeed\n\xff\n", 3),
        ("a.csv", b"title,jira_id,Title\nFeed,P-1,Mend\n", 1),
    ],
)
def test_first_bad_line_is_named(name: str, content: bytes, line: int, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InvalidInput) as refusal:
        read(file)
    assert (refusal.value.code, refusal.value.details["line"]) == ("invalid_line", line)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("suffix", ["txt", "jsonl"])
def test_files_joined_with_their_marks_are_read(suffix: str, encoding: str, tmp_path: Path) -> None:
    file = tmp_path / f"tasks.{suffix}"
    lines = ["Feed\n", "Mend\n", ""] if suffix == "txt" else ['{"title": "Feed"}\n', '{"title": "Mend"}\n', ""]
    file.write_bytes(b"".join(line.encode(encoding) for line in lines))
    assert [line for line in read(file) if line] == [NewTask(title="Feed"), NewTask(title="Mend")]


@pytest.mark.parametrize("content", [b"a\0b\n", b"Feed\0 the cage\n", b"F\0\0\0e\0\0\0"])
def test_stray_zero_byte_is_not_taken_for_utf_16(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "tasks.txt"
    file.write_bytes(content)
    assert read(file) == [NewTask(title=content.decode().strip())]  # such a title is then refused


def test_utf_16_that_is_cut_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tasks.txt"
    file.write_bytes("Feed".encode("utf-16")[:-1])
    with pytest.raises(InvalidInput, match="cannot be read"):
        read(file)


def test_people_are_read_from_csv_but_not_from_plain_text(tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text("email;role;username\npolly@example.com;worker;polly\n")
    with open_import(str(file), NewPerson) as people:
        assert [*people][1:] == [NewPerson(username="polly", email="polly@example.com", role="worker")]
    file.write_text("polly\n")
    with pytest.raises(InvalidInput, match="Line 1"), open_import(str(file), NewPerson):
        pass


@pytest.fixture
def company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    company = company_at(tmp_path / "home")
    company.clock.instant = datetime.now(UTC)  # the program runs on the clock of the machine
    token = company.act("boss", IssueToken(username="boss", ttl_seconds=86400)).token
    monkeypatch.setenv("POPUG_TOKEN", token)
    monkeypatch.setenv("POPUG_HOME", str(company.root))
    return company


def test_ignored_fields_are_named_once(company: InProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text("".join(f'{{"title": "Task {n}", "assignee": "x", "\\u001bprio": {n}}}\n' for n in range(5)))
    assert run(["tasks", "import", str(file)]) == 0
    shown = capsys.readouterr()
    assert shown.err.count("assignee, \\x1bprio") == shown.err.count("warning") == 1
    assert shown.out.startswith("Imported 5 tasks.\n")
    assert run(["tasks", "import", str(file), "--json"]) == 0
    shown = capsys.readouterr()
    answer = json.loads(shown.out)
    assert (answer["ignored_fields"], answer["skipped"]) == (["assignee", "\\x1bprio"], 5)
    assert shown.err.count("warning") == 1


def test_ignored_fields_are_named_within_bounds(
    company: InProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tasks.jsonl"
    many = {"title": "Feed", "x" * 5_000: 1} | {f"field{n}": n for n in range(3_000)}
    file.write_text(f'{json.dumps(many)}\n{{"title": "Mend", "last": 1}}\n')
    assert run(["tasks", "import", str(file)]) == 0
    warning = " ".join(capsys.readouterr().err.split())
    assert "x…, field0," in warning
    assert warning.endswith("field18, and others.")
    assert len(warning) < 500


def test_second_import_says_what_it_did(company: InProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "my tasks.txt"
    sentences = {
        "": "The file has no tasks; nothing was imported.",
        "Feed\n": "Imported 1 task.",
        "Feed\n\n": "Imported nothing: the file has only 1 line that was imported before.",
        "Feed\nMend\nOil\n": "Imported 2 tasks; skipped 1 line that was imported before.",
        "Oil\nMend\nFeed\n": "Imported nothing: the file has only 3 lines that were imported before.",
        "Oil\nMend\nFeed\nSing\n": "Imported 1 task; skipped 3 lines that were imported before.",
    }
    for content, sentence in sentences.items():
        file.write_text(content)
        assert run(["tasks", "import", str(file)]) == 0
        shown = capsys.readouterr().out
        assert shown.splitlines()[0] == sentence
        hint = f"To import every line again: popug tasks import '{file}' --again"
        assert (hint in shown) == ("imported before" in sentence)
    assert run(["tasks", "import", str(file), "--again"]) == 0
    assert capsys.readouterr().out.startswith("Imported 4 tasks.\n")
    assert len(company.act("boss", ALL).tasks) == 8


def test_taken_id_is_named_with_a_command_that_works(
    company: InProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tasks.jsonl"
    for title in ("Junk", "Feed 'the' cage"):
        file.write_text(json.dumps({"title": title, "jira_id": "POPUG-7"}))
        assert run(["tasks", "import", str(file)]) == 0
    shown = capsys.readouterr()
    assert "Imported nothing; skipped 1 line whose id is taken.\n" in shown.out
    assert "--again" not in shown.out
    warning = shown.err
    assert "Line 1: POPUG-7 belongs to #1 “Junk”, imported by boss, so “Feed 'the' cage” was not imported." in warning
    assert "popug task add --jira POPUG-7 -- 'Feed '\"'\"'the'\"'\"' cage'" in warning


def test_users_of_a_csv_are_registered(company: InProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "people.csv"
    file.write_text("Username,E-mail,email,role\npolly,,polly@example.com,worker\n", encoding="utf-8-sig")
    assert run(["user", "import", str(file)]) == 0
    assert "polly" in {user.username for user in company.act("boss", ListUsers()).users}
    assert "e_mail" not in capsys.readouterr().out


def test_hint_works_for_a_name_like_an_option(
    company: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-chores.txt").write_text("Feed the cage\n")
    for _ in range(2):
        assert run(["tasks", "import", "--", "-chores.txt"]) == 0
    shown = capsys.readouterr().out
    assert "1 line that was imported before" in shown
    hint = "To import every line again: popug "
    (command,) = [line.removeprefix(hint) for line in shown.splitlines() if line.startswith(hint)]
    assert run(command.split()) == 0
    assert "Imported 1 task" in capsys.readouterr().out

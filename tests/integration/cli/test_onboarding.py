"""The first steps: the hints and questions of popug for a new user."""

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from popug_cli.cli.main import run
from tests.support.identity_company import CHEAP

PASSWORD = "seven cages under nine moons"


class Terminal(io.TextIOBase):
    """A terminal with a user who types lines; `shown` is the text that appears next to the answer."""

    def __init__(self, *lines: str) -> None:
        super().__init__()
        self.lines = list(lines)
        self.shown = ""

    def isatty(self) -> bool:
        return True

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        return f"{self.lines.pop(0)}\n" if self.lines else ""

    def write(self, text: str, /) -> int:
        self.shown += text
        return len(text)


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with the program and no company."""
    for name in ("POPUG_TOKEN", "POPUG_SERVER", "POPUG_PLAIN", "PAGER"):
        monkeypatch.delenv(name, raising=False)
    variables = {
        "POPUG_HOME": tmp_path / "home",
        "POPUG_SESSION": tmp_path / "session.json",
        "LOGNAME": "Ada",
        "TZ": "UTC",
    }
    for name, value in {**CHEAP, **variables, "LC_ALL": "C.UTF-8"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr("socket.gethostname", lambda: "cage")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def popug(*words: str, typed: str = "") -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
        return run([*words]), out.getvalue(), err.getvalue()


def at_terminal(*words: str, lines: list[str], passwords: list[str]) -> tuple[int, str, str]:
    out, terminal = io.StringIO(), Terminal(*lines)
    with redirect_stdout(out), redirect_stderr(terminal), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", terminal)
        patch.setattr("getpass.getpass", lambda prompt: (terminal.write(prompt), passwords.pop(0))[1])
        return run([*words]), out.getvalue(), terminal.shown


def founded() -> None:
    code, _, err = popug(
        "init", "--admin", "ada", "--email", "ada@example.com", "--password-stdin", typed=f"{PASSWORD}\n"
    )
    assert code == 0, err


def test_popug_in_empty_home_suggests_demo_init_and_serve(nowhere: Path) -> None:
    code, out, err = popug()
    assert (code, err) == (0, "")
    for word in ("popug demo", "popug init", "popug serve", str(nowhere / "home")):
        assert word in out
    assert not (nowhere / "home").exists()
    assert popug("--plain")[1].isascii()


def test_popug_suggests_path_line_if_shell_cannot_find_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    folder = Path(sys.executable).parent
    assert f"export PATH={folder}:$PATH" in popug("--plain")[1]
    monkeypatch.setenv("PATH", str(folder))
    assert "export PATH" not in popug("--plain")[1]


def test_popug_json_in_empty_home_reports_not_initialised() -> None:
    code, out, err = popug("--json")
    assert (code, out) == (3, "")
    assert json.loads(err)["error"]["code"] == "not_initialised"


def test_popug_without_command_suggests_login_then_shows_today() -> None:
    founded()
    assert popug()[1].startswith("ada (admin), ")
    assert popug("logout")[0] == 0
    code, out, _ = popug()
    assert code == 0
    assert "popug login NAME" in out


def test_init_repeats_each_question_until_answer_is_valid() -> None:
    code, out, shown = at_terminal(
        "init", lines=["Ada Lovelace", "", "no address", "", "berlin", "Europe/Berlin"],
        passwords=["short", "short", PASSWORD, "another", PASSWORD, PASSWORD],
    )  # fmt: skip
    assert code == 0, shown
    assert "(time zone Europe/Berlin)" in out
    for said in (
        *("[ada]:", "[ada@cage]:", "[UTC]:", "Did you mean Europe/Berlin?"),
        *("is not a valid username", "is not a valid e-mail"),
        *("New password (12 characters or more):", "fewer than 12", "differ"),
    ):
        assert said in shown, said
    assert json.loads(popug("whoami", "--json")[1])["email"] == "ada@cage"


def test_init_offers_no_zone_if_the_machines_is_not_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    code, out, shown = at_terminal("init", lines=["", "", "", "Europe/Berlin"], passwords=[PASSWORD] * 2)
    assert code == 0, shown
    assert "TZ is 'CET-1CEST,M3.5.0,M10.5.0/3', which is not the name of a time zone." in " ".join(shown.split())
    assert "The company's time zone:" in shown
    assert "(time zone Europe/Berlin)" in out


def test_init_asks_only_for_omitted_options(nowhere: Path) -> None:
    code, _, shown = at_terminal(
        "init", "--admin", "ada", "--email", "a@example.com", lines=[], passwords=[PASSWORD] * 2
    )
    assert code == 0, shown
    assert "[" not in shown


def test_init_ended_by_end_of_input_creates_nothing(nowhere: Path) -> None:
    assert at_terminal("init", lines=["ada"], passwords=[])[0] == 130
    assert not (nowhere / "home").exists()


def test_init_without_terminal_names_the_missing_option() -> None:
    code, _, err = popug("init", "--email", "ada@example.com", "--password-stdin", typed=f"{PASSWORD}\n")
    assert code == 2
    assert "--admin" in err


def test_home_that_is_a_file_is_refused(nowhere: Path) -> None:
    (nowhere / "home").write_text("a file")
    for words in (["whoami"], ["init", "--admin", "a", "--email", "a@b.example", "--password-stdin"], []):
        code, _, err = popug(*words, typed=f"{PASSWORD}\n")
        assert code in {2, 3}
        assert "is a file" in err


def test_shuffle_without_company_is_refused_without_a_question() -> None:
    code, _, err = popug("tasks", "shuffle")
    assert code == 3
    assert "There is no company" in err


def test_login_puts_a_damaged_session_file_aside(nowhere: Path) -> None:
    founded()
    (nowhere / "session.json").write_text("{")
    code, _, err = popug("whoami")
    assert code == 4
    assert "popug login NAME" in err
    code, _, err = popug("login", "ada", "--password-stdin", typed=f"{PASSWORD}\n")
    assert code == 0
    assert "damaged" in err
    assert (nowhere / "session.damaged.json").read_text() == "{"
    assert popug("whoami")[0] == 0


def test_task_number_may_have_a_hash_sign() -> None:
    founded()
    popug("user", "add", "kesha", "--email", "k@example.com", "--role", "worker")
    popug("task", "add", "Feed the cage")
    assert json.loads(popug("task", "show", "#1", "--json")[1])["task"]["number"] == 1
    code, _, err = popug("task", "show", "one")
    assert code == 2
    assert "'#42'" in err


def test_too_long_jira_id_is_refused_with_the_limit() -> None:
    founded()
    code, _, err = popug("task", "add", "Feed the cage", "--jira", "A" * 70 + "-1")
    assert code == 2
    assert "at most 64 characters" in err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("taks list", "'tasks'"),
        ("tasks lsit", "'list'"),
        ("tasks list --serach x", "--search"),
        ("tasks list --status opne", "Did you mean open?"),
        ("tasks list --assignee kehsa", "Did you mean kesha?"),
        ("user show keshha", "Did you mean kesha?"),
        ("balance kesh", "Did you mean kesha?"),
        ("config set mail.transprot smtp", "Did you mean mail.transport or"),
        ("config set mail.transport smpt", "Did you mean smtp?"),
        ("user set-role kesha wroker", "Did you mean worker?"),
        ("complete 1", "Did you mean `popug task complete`?"),
        ("tasks complete 1", "Did you mean `popug task complete`?"),
        ("user add bob", "For example: `popug user add basil --email basil@example.com --role worker`."),
        ("task add Feed the cage", "For example: `popug task add 'Feed the cage'`."),
    ],
)
def test_mistyped_word_gives_a_suggestion(words: str, meant: str) -> None:
    founded()
    popug("user", "add", "kesha", "--email", "k@example.com", "--role", "worker")
    code, _, err = popug(*words.split())
    assert code in {2, 3}
    assert meant in err


def test_hints_lead_to_the_first_payout() -> None:
    founded()
    popug("user", "add", "kesha", "--email", "k@example.com", "--role", "worker", "--password-stdin", typed=PASSWORD)
    popug("task", "add", "Feed the cage")
    popug("login", "kesha", "--password-stdin", typed=f"{PASSWORD}\n")
    assert "Next: popug task complete 1" in popug()[1]
    assert "Jira" not in popug()[1]
    assert "\n\n\n" not in "\n".join(line.strip() for line in popug("today", "--since", "today")[1].split("\n"))
    popug("task", "add", "Wipe the glass")  # one reward may be as small as its fee, so that nothing is paid
    assert [popug("task", "complete", number)[0] for number in "12"] == [0, 0]
    popug("login", "ada", "--password-stdin", typed=f"{PASSWORD}\n")
    assert "popug close-day --dry-run" in popug()[1]
    dry_run = popug("close-day", "--dry-run")[1]
    assert "kesha" in dry_run
    assert dry_run.endswith("Next: popug close-day\n")
    assert popug("close-day")[1].endswith("Next: popug mail list\n")
    assert "popug close-day" not in popug()[1]
    assert popug("close-day")[1].endswith("Next: popug mail list\n")
    assert "k@example.com" in popug("mail", "list")[1]


def test_today_shows_news_once_unless_it_is_peeked() -> None:
    founded()
    popug("user", "add", "kesha", "--email", "k@example.com", "--role", "worker", "--password-stdin", typed=PASSWORD)
    popug("task", "add", "Feed the cage")
    popug("login", "kesha", "--password-stdin", typed=f"{PASSWORD}\n")
    seen = [json.loads(popug("today", "--json", *option)[1]) for option in (["--peek"], [], [])]
    assert [[each["what"] for each in day["happened"]] for day in seen] == [["given"], ["given"], []]
    again = json.loads(popug("today", "--json", "--since", "yesterday")[1])
    assert [each["what"] for each in again["happened"]] == ["given"]
    assert "Nothing new." in popug()[1]

"""Text from other systems: composed letters, byte order marks, dashes, tokens with line breaks, colour switches."""

import shlex
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.answers import pick
from tests.support.installed_company import PASSWORD, PROGRAM, Company, Result, email_of

MARK = "\ufeff"
COMPOSED, DECOMPOSED = "Caf\u00e9 f\u00fcr Papageien", "Cafe\u0301 fu\u0308r Papageien"


def run_line(company: Company, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in a shell in which ``popug`` is the program under test."""
    script = f'popug() {{ {shlex.join(PROGRAM)} "$@"; }}; {line}'
    built = company.environment() | environment
    return subprocess.run(
        ["bash", "-c", script], env=built, cwd=company.folder, capture_output=True, text=True, check=False, timeout=60
    )


def titles_found(company: Company, search: str) -> list[str]:
    tasks = company.ask("kesha", "tasks", "list", "--all", "--search", search)["tasks"]
    return [task["title"] for task in tasks]


# --- letters ------------------------------------------------------------------------------------


def test_composed_and_decomposed_lines_are_one_task(lone: Company) -> None:
    assert lone.import_tasks("kesha", [COMPOSED])["imported"] == 1
    answer = lone.import_tasks("kesha", [DECOMPOSED])
    assert pick(answer, "imported", "skipped") == {"imported": 0, "skipped": 1}
    assert [task["title"] for task in lone.tasks()] == [COMPOSED]


def test_search_ignores_composition_case_and_width(lone: Company) -> None:
    titles = [DECOMPOSED, "\u0130stanbul", "Stra\u00dfe", "\uff21\uff22\uff23 full", "So\u00adft hyphen"]
    lone.import_tasks("kesha", titles)
    for search in (COMPOSED, DECOMPOSED, "CAFE\u0301", "caf\u00c9"):
        assert titles_found(lone, search) == [COMPOSED]
    for search in ("istanbul", "ISTANBUL", "\u0130STANBUL", "\u0131stanbul"):
        assert titles_found(lone, search) == ["\u0130stanbul"]
    assert titles_found(lone, "STRASSE") == ["Stra\u00dfe"]
    assert titles_found(lone, "abc") == ["\uff21\uff22\uff23 full"]
    assert titles_found(lone, "soft") == ["So\u00adft hyphen"]


def test_composed_title_is_not_called_split(lone: Company) -> None:
    for options in ([], ["--jira", "P-1"]):
        shown = lone.run("task", "add", DECOMPOSED, *options, as_user="kesha", as_json=False)
        assert (shown.code, "split" in shown.stdout, COMPOSED in shown.stdout) == (0, False, True)


def test_title_of_many_decomposed_letters_is_accepted(lone: Company) -> None:
    assert lone.add_task("kesha", "e\u0301" * 200)["title"] == "\u00e9" * 200


# --- byte order marks ---------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_byte_order_mark_is_not_part_of_a_password(lone: Company, encoding: str) -> None:
    mark = MARK if encoding == "utf-16-be" else ""
    add = ["user", "add", "eve", "--email", email_of("eve"), "--role", "worker", "--password-stdin"]
    added = with_stdin(lone, add, f"{mark}{PASSWORD}\r\nsecond line\r\n".encode(encoding), as_user="ada")
    assert added.code == 0, added
    login = ["login", "eve", "--password-stdin"]
    for typed in (f"{PASSWORD}\n", f"{MARK}{PASSWORD}\n"):
        assert with_stdin(lone, login, typed.encode()).code == 0


def with_stdin(company: Company, line: list[str], content: bytes, as_user: str | None = None) -> Result:
    company.be_served()
    done = subprocess.run(
        [*PROGRAM, *line], env=company.environment(as_user), input=content, capture_output=True, check=False, timeout=60
    )
    return Result(tuple(line), done.returncode, done.stdout.decode(), done.stderr.decode())


def test_byte_order_mark_is_not_part_of_a_title(lone: Company) -> None:
    assert lone.add_task("kesha", f"{MARK}Feed the cage")["title"] == "Feed the cage"
    assert lone.add_task("kesha", f"\u2800{MARK} Oil the hinge \u2800")["title"] == "Oil the hinge"
    assert lone.import_tasks("kesha", [f"{MARK}Mend the swing", "Mend the swing"])["imported"] == 2
    assert [task["title"] for task in lone.tasks()] == ["Feed the cage", "Oil the hinge", *["Mend the swing"] * 2]


# --- a leading dash ------------------------------------------------------------------------------


@pytest.mark.parametrize("title", ["-Feed the cage", "-5 degrees", "- Feed", "--help the parrot", "-hello"])
def test_hint_for_a_leading_dash_is_a_command_that_works(lone: Company, title: str) -> None:
    refused = run_line(lone, f"popug task add {shlex.quote(title)}", POPUG_TOKEN=lone.token("kesha"))
    assert refused.returncode == 2
    command = refused.stderr.partition("`")[2].partition("`")[0]
    done = run_line(lone, command, POPUG_TOKEN=lone.token("kesha"))
    assert done.returncode == 0, done.stderr
    assert lone.tasks()[-1]["title"] == title


def test_misspelt_option_is_not_taken_for_a_value(lone: Company) -> None:
    error = lone.run("task", "add", "Feed", "--jsn", as_user="kesha").refused(2, "usage")
    assert "--json" in error["message"]
    assert "write --" not in error["hint"]


# --- POPUG_TOKEN ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{}\n", "{}\r\n", " {}\t", '"{}"', "\ufeff{}", "{}\nKeep it secret."])
def test_token_is_read_without_what_surrounds_it(lone: Company, form: str) -> None:
    token = lone.token("kesha")
    assert lone.run("whoami", env={"POPUG_TOKEN": form.format(token)}).ok()["username"] == "kesha"


@pytest.mark.parametrize("bad", ["abc", "Bearer {}", "/run/secrets/token", "{}.{}", "x\n{}"])
def test_hint_for_a_bad_token_names_the_variable(lone: Company, bad: str) -> None:
    token = bad.replace("{}", lone.token("kesha"))
    error = lone.run("whoami", env={"POPUG_TOKEN": token}).refused(4, "token_invalid")
    assert "`unset POPUG_TOKEN`" in error["hint"]
    assert lone.token("kesha") not in str(error)


def test_blank_token_leaves_the_session_in_force(lone: Company) -> None:
    assert lone.run("login", "kesha", "--password-stdin", input=f"{PASSWORD}\n").code == 0
    for blank in ("", " ", "\n"):
        assert lone.run("whoami", env={"POPUG_TOKEN": blank}).ok()["username"] == "kesha"


# --- colour --------------------------------------------------------------------------------------

COLOUR_SCREENS = (("tasks", "list", "--all"), ("task", "add", "--help"), ("today",), ("doctor",))
PLAIN_SWITCHES: list[dict[str, str]] = [
    {},
    {"FORCE_COLOR": "0"},
    {"FORCE_COLOR": "false"},
    {"FORCE_COLOR": ""},
    {"NO_COLOR": "1", "FORCE_COLOR": "1"},
    {"NO_COLOR": "0", "FORCE_COLOR": "3"},
]


@pytest.mark.parametrize("switches", PLAIN_SWITCHES, ids=str)
def test_pipe_has_no_escapes_unless_colour_is_forced(lone: Company, switches: dict[str, str]) -> None:
    for line in COLOUR_SCREENS:
        shown = lone.run(*line, as_user="kesha", env={"TERM": "xterm-256color"} | switches, as_json=False)
        assert "\x1b" not in shown.stdout + shown.stderr, line


@pytest.mark.parametrize("terminal", ["xterm", "dumb"])
def test_forced_colour_reaches_a_pipe(lone: Company, terminal: str) -> None:
    environment = {"TERM": terminal, "FORCE_COLOR": "1", "NO_COLOR": ""}
    shown = lone.run("task", "add", "--help", as_user="kesha", env=environment, as_json=False)
    assert "\x1b[" in shown.stdout
    assert "\x1b" not in lone.run("tasks", "list", as_user="kesha", env=environment).stdout


# --- a deleted directory -------------------------------------------------------------------------


def test_deleted_directory_is_named_where_it_matters(lone: Company) -> None:
    gone = Path(lone.folder, "gone")
    for line, code in (
        ("popug whoami", 0),
        ("popug --home home whoami", 2),
        ("popug backup x.zip", 2),
        ("popug restore x.zip --yes", 2),
        ("popug tasks import x.txt", 2),
        ("popug tasks export --out x.jsonl", 2),
        ("popug ledger export --format csv --out sub/x.csv", 2),
        ("popug user import x.jsonl", 2),
        ("popug events schemas --out x", 2),
        ("popug tasks import - < /dev/null", 0),
    ):
        gone.mkdir()
        done = run_line(lone, f"cd {gone} && rmdir {gone} && {line}", POPUG_TOKEN=lone.token("ada"))
        assert done.returncode == code, done.stderr
        if code:
            assert "The current directory does not exist any more" in done.stderr
            assert "`cd`" in done.stderr

"""Bad input, damaged homes and broken pipes: each gives a sentence and an exit code, never a traceback."""

import fcntl
import os
import pty
import select
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest

from tests.support.installed_company import PASSWORD, PROGRAM, Company, Result, email_of, snapshot

ADD = ("user", "add", "eve", "--role", "worker", "--password-stdin", "--email")


def add_named(name: str) -> tuple[str, ...]:
    """Return the command that adds a user with this name."""
    return ("user", "add", "--email", "eve@popug.example", "--role", "worker", "--password-stdin", name)


# the user, the command, its exit code, and the code of the error if cli.md names it
Case = tuple[str, Sequence[str], int, str | None]

CASES: dict[str, Case] = {
    # numbers, names, roles
    "show-unknown-task": ("kesha", ("task", "show", "999"), 3, "task_not_found"),
    "complete-unknown-task": ("kesha", ("task", "complete", "999"), 3, "task_not_found"),
    "complete-no-number": ("kesha", ("task", "complete", "seven"), 2, "usage"),
    "show-unknown-user": ("ada", ("user", "show", "nobody"), 3, "user_not_found"),
    "role-of-unknown-user": ("ada", ("user", "set-role", "nobody", "worker"), 3, "user_not_found"),
    "balance-of-unknown-user": ("ada", ("balance", "nobody"), 3, "user_not_found"),
    "statement-of-unknown-user": ("ada", ("statement", "nobody"), 3, "user_not_found"),
    "unknown-role": ("ada", ("user", "set-role", "kesha", "king"), 2, None),
    "unknown-status": ("kesha", ("tasks", "list", "--status", "weird"), 2, None),
    "limit-of-zero": ("kesha", ("tasks", "list", "--limit", "0"), 2, None),
    # dates
    "close-on-no-date": ("ada", ("close-day", "--date", "2031-02-30"), 2, None),
    "close-on-words": ("ada", ("close-day", "--date", "someday"), 2, None),
    "income-from-no-date": ("ada", ("income", "--from", "2031-13-01"), 2, None),
    "balance-as-of-words": ("kesha", ("balance", "--as-of", "the other day"), 2, None),
    "analytics-of-no-date": ("ada", ("analytics", "--date", "31/12/2031"), 2, None),
    # titles
    "empty-title": ("kesha", ("task", "add", ""), 2, "invalid_title"),
    "blank-title": ("kesha", ("task", "add", "   "), 2, "invalid_title"),
    "braille-blank-title": ("kesha", ("task", "add", "\u2800 \u2800"), 2, "invalid_title"),
    "lone-mark-title": ("kesha", ("task", "add", "\u0301"), 2, "invalid_title"),
    "lone-marks-title": ("kesha", ("task", "add", " \u20dd\ufe0f \u0903"), 2, "invalid_title"),
    "leading-mark-title": ("kesha", ("task", "add", "\u0301Feed"), 2, "invalid_title"),
    "byte-order-mark-title": ("kesha", ("task", "add", "\ufeff"), 2, "invalid_title"),
    "over-long-title": ("kesha", ("task", "add", "x" * 201), 2, "invalid_title"),
    "two-line-title": ("kesha", ("task", "add", "Feed\nthe cage"), 2, "invalid_title"),
    "line-separator-in-title": ("kesha", ("task", "add", "Feed\u2028the cage"), 2, "invalid_title"),
    "escape-in-title": ("kesha", ("task", "add", "\x1b31mFeed the cage"), 2, "invalid_title"),
    "brackets-in-title": ("kesha", ("task", "add", "Feed [red]the[/red] cage"), 2, "invalid_title"),
    "no-jira-in-brackets": ("kesha", ("task", "add", "[urgent] Feed the cage"), 2, "invalid_title"),
    "jira-without-title": ("kesha", ("task", "add", "[POPUG-7]"), 2, "invalid_title"),
    "no-jira-option": ("kesha", ("task", "add", "Feed", "--jira", "seven"), 2, None),
    "title-of-broken-bytes": ("kesha", ("task", "add", "caf\udce9"), 2, None),
    # addresses
    "email-with-two-ats": ("ada", (*ADD, "eve@popug@example.org"), 2, "invalid_email"),
    "email-with-name": ("ada", (*ADD, "Eve <eve@popug.example>"), 2, "invalid_email"),
    "two-emails": ("ada", (*ADD, "eve@popug.example,eva@popug.example"), 2, "invalid_email"),
    "email-with-header": ("ada", (*ADD, "eve@popug.example\nBcc: all@popug.example"), 2, "invalid_email"),
    "email-with-blank": ("ada", (*ADD, "e ve@popug.example"), 2, "invalid_email"),
    "new-email-without-at": ("ada", ("user", "set-email", "kesha", "kesha"), 2, "invalid_email"),
    # usernames
    "username-with-blank": ("ada", add_named("e ve"), 2, "invalid_username"),
    "empty-username": ("ada", add_named(""), 2, "invalid_username"),
    "long-username": ("ada", add_named("e" * 33), 2, "invalid_username"),
    "username-in-cyrillic": ("ada", add_named("ева"), 2, "invalid_username"),
    "username-with-line-end": ("ada", add_named("eve\n"), 2, "invalid_username"),
    "username-operator": ("ada", add_named("Operator"), 2, "invalid_username"),
    # usage
    "no-such-command": ("kesha", ("nonsense",), 2, "usage"),
    "missing-argument": ("kesha", ("task", "add"), 2, "usage"),
    "unknown-option": ("kesha", ("tasks", "list", "--bogus"), 2, "usage"),
    "one-argument-too-many": ("kesha", ("task", "add", "Feed", "the", "cage"), 2, "usage"),
}


@dataclass
class Answers:
    """The results of all bad commands, and the state of the company before and after."""

    results: dict[str, Result]
    before: tuple[object, object]
    after: tuple[object, object]


def state_of(company: Company) -> tuple[object, object]:
    """Return the tasks and the users."""
    return company.tasks(), company.ask("ada", "user", "list")


@pytest.fixture(scope="module")
def answers(staff: Company) -> Answers:
    """Run every bad command once in one company, two at a time."""
    before = state_of(staff)
    staff.log_in_all({who for who, _, _, _ in CASES.values()})
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda case: staff.run(*case[1], as_user=case[0], input=PASSWORD + "\n"), CASES.values())
        named = dict(zip(CASES, results, strict=True))
    return Answers(named, before, state_of(staff))


@pytest.mark.parametrize("name", CASES)
def test_bad_input_has_its_exit_status_and_code(answers: Answers, name: str) -> None:
    _, _, code, error = CASES[name]
    if error is None:
        answers.results[name].refused_with_exit(code)
    else:
        answers.results[name].refused(code, error)


def test_bad_input_leaves_nothing_behind(answers: Answers) -> None:
    assert answers.after == answers.before


def test_number_of_any_size_is_answered(staff: Company) -> None:
    for number in ("0", "9" * 40):
        result = staff.run("task", "show", number, as_user="kesha")
        assert result.code in {2, 3}, result
        assert "Traceback" not in result.stderr


def test_error_without_json_has_no_control_characters(staff: Company) -> None:
    result = staff.run("user", "show", "[red]x\x1b[2J", as_user="ada", as_json=False)
    assert result.code in {2, 3}
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert "\x1b" not in result.stderr
    assert result.stderr.strip()


# --- sessions and homes -------------------------------------------------------------------------


def test_command_without_token_is_refused(staff: Company) -> None:
    for command in (("whoami",), ("task", "add", "Feed the cage")):
        staff.run(*command).refused(4, "not_logged_in")


def test_password_needs_a_terminal_or_the_option(staff: Company) -> None:
    error = staff.run("login", "kesha").refused_with_exit(2)
    assert "--password-stdin" in f"{error['message']} {error['hint']}"


def test_home_that_is_not_initialised_is_left_as_it_is(folder: Path) -> None:
    company = Company(folder)
    company.run("tasks", "list").refused(3, "not_initialised")
    assert not company.home.exists()
    company.home.mkdir(mode=0o700)
    company.run("login", "kesha", "--password-stdin", input=PASSWORD + "\n").refused(3, "not_initialised")
    assert list(company.home.iterdir()) == []


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "/etc/localtime", "+03:00"])
def test_company_in_no_zone_is_not_set_up(folder: Path, zone: str) -> None:
    company = Company(folder)
    args = ("init", "--admin", "ada", "--email", email_of("ada"), "--time-zone", zone, "--password-stdin")
    company.run(*args, input=PASSWORD + "\n").refused_with_exit(2)
    assert not (company.home / "popug.db").exists()
    assert not company.session.exists()


def test_after_a_refused_init_a_good_one_succeeds(folder: Path) -> None:
    company = Company(folder)
    base = ("init", "--time-zone", company.zone, "--password-stdin", "--admin")
    bad = [
        ((*base, "ada", "--email", "ada"), PASSWORD, "invalid_email"),
        ((*base, "a da", "--email", email_of("ada")), PASSWORD, "invalid_username"),
        ((*base, "ada", "--email", email_of("ada")), "short", "password_too_weak"),
    ]
    for args, password, error in bad:
        company.run(*args, input=password + "\n").refused(2, error)
    assert company.init("ada")["admin"]["username"] == "ada"


def test_home_that_is_a_file_is_refused_and_kept(folder: Path) -> None:
    company = Company(folder)
    company.home.write_text("my diary", encoding="utf-8")
    init = (
        "init",
        "--admin",
        "ada",
        "--email",
        email_of("ada"),
        "--time-zone",
        company.zone,
        "--password-stdin",
    )
    for result in (company.run("tasks", "list"), company.run(*init, input=PASSWORD + "\n")):
        assert result.code in {2, 3, 6, 7, 8}, result
        assert result.error["message"]
        assert "Traceback" not in result.stderr
    assert company.home.read_text(encoding="utf-8") == "my diary"


# --- broken files -------------------------------------------------------------------------------


def overwrite_all(file: Path) -> None:
    """Return bytes of another format."""
    file.write_bytes(b"This is a diary, and no database at all.\n" * 200)


def overwrite_all_but_the_header(file: Path) -> None:
    """Return a file with the header of a database and noise after the first hundred bytes."""
    content = file.read_bytes()
    file.write_bytes(content[:100] + b"\xa5" * (len(content) - 100))


def truncate_to_a_page(file: Path) -> None:
    """Keep the first page only."""
    file.write_bytes(file.read_bytes()[:4096])


@pytest.mark.parametrize("damage", [overwrite_all, overwrite_all_but_the_header, truncate_to_a_page])
def test_damaged_database_is_reported_and_left_alone(company: Company, damage: Callable[[Path], None]) -> None:
    database = company.home / "popug.db"
    for side_file in company.home.glob("popug.db-*"):
        side_file.unlink()
    damage(database)
    damaged = database.read_bytes()
    company.run("tasks", "list", "--all", as_user="kesha").refused(7, "corrupt_database")
    assert database.read_bytes() == damaged


def test_doctor_does_not_pass_a_damaged_database(company: Company) -> None:
    overwrite_all(company.home / "popug.db")
    result = company.run("doctor")
    assert result.code == 7, result
    assert "Traceback" not in result.stderr


def spoil(file: Path) -> None:
    """Replace the content of a key file."""
    file.write_bytes(b"no key")


@pytest.mark.parametrize("damage", [spoil, Path.unlink])
def test_login_refused_with_a_damaged_or_missing_key(company: Company, damage: Callable[[Path], None]) -> None:
    keys = [file for file in (company.home / "keys").rglob("*") if file.is_file()]
    assert keys
    for file in keys:
        damage(file)
    company.run("login", "kesha", "--password-stdin", input=PASSWORD + "\n").refused(4, "key_invalid")
    company.run("whoami", as_user="kesha").refused_with_exit(4)


def test_session_file_open_to_others_is_refused(company: Company) -> None:
    company.run("login", "kesha", "--password-stdin", input=PASSWORD + "\n").ok()
    company.session.chmod(0o644)
    company.run("whoami").refused(4, "insecure_file")


def test_session_file_with_noise_is_not_a_session(company: Company) -> None:
    company.session.write_text("{noise", encoding="utf-8")
    company.session.chmod(0o600)
    company.run("whoami").refused_with_exit(4)


# --- pipes and terminals ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [("tasks", "list", "--all"), ("tasks", "export"), ("--help",)],
    ids=" ".join,
)
def test_closed_stdout_is_not_an_error(staff: Company, command: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    environment = staff.environment("kesha")
    try:
        done = subprocess.run(
            [*PROGRAM, *command], env=environment, stdin=subprocess.DEVNULL, stdout=writer,
            stderr=subprocess.PIPE, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@contextmanager
def on_a_terminal(company: Company, *args: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start a command at its own terminal. Yield the process and the user's end of the terminal."""
    person, terminal = pty.openpty()

    def take_the_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [*PROGRAM, *args], env=company.environment() | {"TERM": "xterm"}, stdin=terminal, stdout=terminal,
        stderr=terminal, start_new_session=True, preexec_fn=take_the_terminal,  # noqa: PLW1509  (no thread runs)
    )  # fmt: skip
    os.close(terminal)
    try:
        yield process, person
    finally:
        process.kill()
        process.wait()
        os.close(person)


def wait_for_a_hidden_prompt(person: int) -> None:
    """Return once the terminal shows the password prompt and has turned off its echo."""
    seen = b""
    deadline = monotonic() + 60
    while b"password" not in seen.lower() or termios.tcgetattr(person)[3] & termios.ECHO:
        assert monotonic() < deadline, seen
        if select.select([person], [], [], 0.01)[0]:
            seen += os.read(person, 1024)


def read_to_the_end(person: int) -> bytes:
    """Return the rest of the terminal's output until the program closes it."""
    seen = b""
    deadline = monotonic() + 60
    try:
        while select.select([person], [], [], max(0, deadline - monotonic()))[0] and (piece := os.read(person, 1024)):
            seen += piece
    except OSError:  # Linux raises this once the other end is closed
        pass
    return seen


def test_password_typed_at_the_prompt_is_not_shown(company: Company) -> None:
    with on_a_terminal(company, "login", "kesha") as (process, person):
        wait_for_a_hidden_prompt(person)
        os.write(person, PASSWORD.encode() + b"\n")
        seen = read_to_the_end(person)
        assert process.wait(30) == 0, seen
    assert PASSWORD.encode() not in seen
    assert company.run("whoami").ok()["username"] == "kesha"


def test_ctrl_c_at_a_prompt_ends_with_130_and_nothing_done(company: Company) -> None:
    before = snapshot(company.home / "keys")
    with on_a_terminal(company, "login", "kesha") as (process, person):
        wait_for_a_hidden_prompt(person)
        os.write(person, b"\x03")
        seen = read_to_the_end(person)
        assert process.wait(30) == 130, seen
    assert b"Traceback" not in seen
    assert not company.session.exists()
    assert snapshot(company.home / "keys") == before


def test_interrupted_command_has_done_all_or_nothing(company: Company) -> None:
    """After a signal during an import, either no task is there or every one with its fee."""
    file = company.write_lines(({"title": f"Task {n}"} for n in range(3000)), "many.jsonl")
    process = subprocess.Popen(
        [*PROGRAM, "tasks", "import", str(file), "--json"], env=company.environment("kesha"),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_until_it_has_the_database_open(process, company)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode in {0, 130}, stderr
    assert b"Traceback" not in stderr
    tasks = company.ask("ada", "tasks", "list", "--all", "--limit", "5000")
    assert tasks["total"] in {0, 3000}
    if process.returncode == 130:
        said = b"what was written until then is kept" if tasks["total"] else b"nothing was left half done"
        assert said in stderr
    statements = company.ask_all(("ada", ("statement", name)) for name in ("asya", "gosha", "kesha"))
    assert sum(len(statement["entries"]) for statement in statements) == tasks["total"]
    assert company.run("doctor").ok()["ok"] is True


def wait_until_it_has_the_database_open(process: subprocess.Popen[bytes], company: Company) -> None:
    """Return when the process has opened the file or a session of the database, or has ended."""
    database = company.home / "popug.db"
    sessions = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND application_name = 'popug'"
    while company.database_server and process.poll() is None:
        if company.database_server.execute(sessions, company.database):
            return
    descriptors = Path(f"/proc/{process.pid}/fd")
    while process.poll() is None:
        with suppress(OSError):  # a descriptor, or the process itself, has just gone
            if any(link.readlink() == database.resolve() for link in descriptors.iterdir()):
                return

"""Wrong guesses by others, new passwords, and the commands that a machine token may not run, seen by users."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.installed_company import PASSWORD, Company, Result

NEW_PASSWORD = "nine-moons-over-7-cages"
MANY = 7


def log_in(company: Company, session: Path, password: str = PASSWORD) -> Result:
    stored = {"POPUG_SESSION": str(session)}
    return company.run("login", "kesha", "--password-stdin", input=password + "\n", env=stored)


def lock_out(company: Company) -> None:
    """Store what many guesses of others leave; to make them takes minutes, because each one has to wait."""
    until = (datetime.now(UTC) + timedelta(minutes=10)).isoformat().replace("+00:00", "Z")
    company.sql("DELETE FROM identity_throttle WHERE username = 'kesha'")
    company.sql("INSERT INTO identity_throttle VALUES ('kesha', 15, ?)", until)


def test_user_logs_in_during_guesses_by_others(company: Company, folder: Path) -> None:
    own = folder / "session.json"
    log_in(company, own).ok()
    lock_out(company)
    log_in(company, folder / "new.json").refused(4, "too_many_attempts")
    assert log_in(company, own).ok()["user"]["username"] == "kesha"
    company.run("logout", env={"POPUG_SESSION": str(own)}).ok()
    assert log_in(company, own).ok()["user"]["username"] == "kesha"


def test_lockout_appears_in_the_log_of_events(company: Company, folder: Path) -> None:
    for _ in range(MANY):
        log_in(company, folder / "thief.json", "not the password").refused_with_exit(4)
    first, *later = company.ask("ada", "events", "list", "--type", "login_locked")["events"]
    assert first["data"]["user_id"] == company.ask("ada", "user", "show", "kesha")["user_id"]
    assert first["data"]["failures"] == 6
    assert len(later) <= MANY - 6


def test_new_password_warns_of_machine_tokens(company: Company) -> None:
    issued = company.ask("ada", "token", "issue", "kesha", "--ttl", "30d", "--scope", "close-day")
    args = ("user", "passwd", "kesha", "--password-stdin")
    result = company.run(*args, as_user="ada", input=NEW_PASSWORD + "\n")
    assert [token["token_id"] for token in result.ok()["machine_tokens"]] == [issued["token_id"]]
    warning = " ".join(result.stderr.split())
    assert "close-day" in warning
    (command,) = re.findall(r"`popug (token revoke [^`]+)`", warning)
    company.ask("ada", *command.split())
    second = company.run(*args, as_user="ada", input=PASSWORD + "\n")
    assert (second.ok()["machine_tokens"], second.stderr) == ([], "")


def test_machine_token_makes_no_credentials(company: Company) -> None:
    machine = {"POPUG_TOKEN": company.ask("ada", "token", "issue", "ada", "--ttl", "1h")["token"]}
    new = NEW_PASSWORD + "\n"
    company.run("user", "passwd", "--password-stdin", env=machine, input=new).refused(5, "forbidden")
    company.run("user", "passwd", "kesha", "--password-stdin", env=machine, input=new).refused(5, "forbidden")
    company.run("token", "issue", "kesha", "--ttl", "1h", env=machine).refused(5, "forbidden")
    add = ("user", "add", "eve", "--email", "eve@popug.example", "--role", "admin")
    company.run(*add, "--password-stdin", env=machine, input=new).refused(5, "forbidden")
    assert company.run(*add, env=machine).ok()["username"] == "eve"
    assert company.log_in("kesha")


def test_admin_issues_no_year_to_themselves(company: Company) -> None:
    company.run("token", "issue", "ada", "--ttl", "365d", as_user="ada").refused(5, "forbidden")
    company.run("token", "issue", "ADA", "--ttl", "32d", as_user="ada").refused(5, "forbidden")
    assert company.ask("ada", "token", "issue", "ada", "--ttl", "365d", "--scope", "close-day")["token"]
    assert company.ask("ada", "token", "issue", "kesha", "--ttl", "365d")["token"]

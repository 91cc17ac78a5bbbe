"""Users, roles, passwords and sessions through the command line."""

import re
import stat
from pathlib import Path

from tests.acceptance.answers import payouts_of, pick
from tests.support.installed_company import PASSWORD, Company, Json, Result, email_of

NEW_PASSWORD = "forty-two-quiet-feathers"


def mode_of(path: Path) -> int:
    """Return the permission bits of a file or folder."""
    return stat.S_IMODE(path.stat().st_mode)


def log_in_and_store(company: Company, name: str, session: Path) -> Json:
    """Log in with the session in a separate file."""
    answer: Json = company.run(
        "login", name, "--password-stdin", input=PASSWORD + "\n", env={"POPUG_SESSION": str(session)}
    ).ok()
    return answer


# --- the company and its sessions ---------------------------------------------------------------


def test_init_sets_up_a_closed_home_and_logs_the_admin_in(folder: Path) -> None:
    company = Company(folder)
    answer = company.init("ada")
    assert (answer["home"], answer["time_zone"]) == (str(company.home), company.zone)
    admin = answer["admin"]
    assert (admin["username"], admin["email"], admin["role"]) == ("ada", email_of("ada"), "admin")
    assert admin["active"] is True
    assert mode_of(company.home) == 0o700
    assert mode_of(company.session) == 0o600
    assert company.run("whoami").ok() == admin


def test_second_init_is_refused_and_adds_no_user(staff: Company) -> None:
    args = ("init", "--admin", "eve", "--email", email_of("eve"), "--password-stdin")
    staff.run(*args, input=PASSWORD + "\n").refused(6, "already_initialised")
    staff.run("user", "show", "eve", as_user="ada").refused(3, "user_not_found")


def test_wrong_password_and_unknown_name_give_the_same_error(staff: Company) -> None:
    wrong = staff.run("login", "kesha", "--password-stdin", input="not-my-password-at-all\n")
    unknown = staff.run("login", "nobody", "--password-stdin", input=PASSWORD + "\n")
    said = [result.refused(4, "bad_credentials") for result in (wrong, unknown)]
    assert said[0]["message"].replace("kesha", "X") == said[1]["message"].replace("nobody", "X")
    assert not staff.session.exists()


def test_login_is_remembered_until_logout(staff: Company, folder: Path) -> None:
    session = folder / "session.json"
    stored = {"POPUG_SESSION": str(session)}
    answer = log_in_and_store(staff, "kesha", session)
    assert answer["user"]["username"] == "kesha"
    assert answer["expires_at"] > staff.now().strftime("%Y-%m-%d")
    assert mode_of(session) == 0o600
    assert staff.run("whoami", env=stored).ok() == answer["user"]
    staff.run("logout", env=stored).ok()
    staff.run("whoami", env=stored).refused(4, "not_logged_in")


def test_printed_token_stands_alone_and_is_not_stored(staff: Company, folder: Path) -> None:
    session = folder / "session.json"
    args = ("login", "gosha", "--password-stdin", "--print-token")
    result = staff.run(*args, input=PASSWORD + "\n", env={"POPUG_SESSION": str(session)}, as_json=False)
    assert result.code == 0, result
    (token,) = result.stdout.split()
    assert not session.exists()
    assert staff.run("whoami", env={"POPUG_TOKEN": token}).ok()["username"] == "gosha"


def test_token_of_the_environment_goes_before_the_session_file(staff: Company, folder: Path) -> None:
    session = folder / "session.json"
    log_in_and_store(staff, "ada", session)
    whoami = staff.run("whoami", as_user="kesha", env={"POPUG_SESSION": str(session)}).ok()
    assert whoami["username"] == "kesha"


def test_invalid_token_is_refused(staff: Company) -> None:
    staff.run("whoami", env={"POPUG_TOKEN": "polly.wants.crackers"}).refused(4, "token_invalid")


def test_token_of_another_company_is_refused(staff: Company, lone_template: Company) -> None:
    staff.run("whoami", env={"POPUG_TOKEN": lone_template.token("kesha")}).refused_with_exit(4)


# --- users --------------------------------------------------------------------------------------


def test_added_person_is_shown_listed_and_lower_cased(company: Company) -> None:
    args = ("user", "add", "PeTya", "--email", "Petya@popug.example", "--role", "worker", "--password-stdin")
    added = company.run(*args, as_user="ada", input=PASSWORD + "\n").ok()
    assert set(added) >= {"user_id", "username", "email", "role", "active"}
    assert (added["username"], added["role"], added["active"]) == ("petya", "worker", True)
    shown, listed = company.ask_all([("ada", ["user", "show", "petya"]), ("ada", ["user", "list"])])
    assert shown == added
    names = sorted(user["username"] for user in listed["users"])
    assert names == ["ada", "asya", "gosha", "kesha", "mira", "petya"]
    assert added in listed["users"]


def test_duplicate_name_or_address_is_refused(staff: Company) -> None:
    def add(name: str, email: str) -> Result:
        args = ("user", "add", name, "--email", email, "--role", "worker", "--password-stdin")
        return staff.run(*args, as_user="ada", input=PASSWORD + "\n")

    add("Kesha", "other@popug.example").refused(6, "username_taken")
    add("eve", "KESHA@Popug.Example").refused(6, "email_taken")
    staff.run("user", "set-email", "gosha", "Kesha@popug.example", as_user="ada").refused(6, "email_taken")
    staff.run("user", "show", "eve", as_user="ada").refused(3, "user_not_found")


def test_address_is_changed(company: Company) -> None:
    changed = company.ask("ada", "user", "set-email", "kesha", "new@popug.example")
    assert (changed["username"], changed["email"]) == ("kesha", "new@popug.example")
    assert company.ask("ada", "user", "show", "kesha") == changed


def test_new_role_revokes_tokens_and_applies_at_next_login(company: Company) -> None:
    shuffle = ("tasks", "shuffle", "--yes")
    company.run(*shuffle, as_user="kesha").refused(5, "forbidden")
    assert company.ask("ada", "user", "set-role", "kesha", "manager")["role"] == "manager"
    company.run(*shuffle, as_user="kesha").refused(4, "token_revoked")
    company.log_in_again("kesha")
    assert company.ask("kesha", *shuffle)["task_count"] == 0


def test_last_admin_cannot_be_removed(staff: Company) -> None:
    staff.run("user", "set-role", "ada", "worker", as_user="ada").refused(6, "last_admin")
    staff.run("user", "deactivate", "ada", as_user="ada").refused(6, "last_admin")
    assert staff.run("whoami", as_user="ada").ok()["role"] == "admin"


def test_password_is_changed_by_its_owner_and_by_an_admin(company: Company) -> None:
    change = ("user", "passwd", "--password-stdin")
    assert company.run(*change, as_user="kesha", input=NEW_PASSWORD + "\n").ok()["username"] == "kesha"
    by_admin = ("user", "passwd", "gosha", "--password-stdin")
    assert company.run(*by_admin, as_user="ada", input=NEW_PASSWORD + "\n").ok()["username"] == "gosha"
    for name in ("kesha", "gosha"):
        old = company.run("login", name, "--password-stdin", input=PASSWORD + "\n")
        old.refused(4, "bad_credentials")
        assert company.log_in(name, NEW_PASSWORD)


def test_only_an_admin_changes_the_password_of_another(staff: Company) -> None:
    args = ("user", "passwd", "gosha", "--password-stdin")
    staff.run(*args, as_user="kesha", input=NEW_PASSWORD + "\n").refused(5, "forbidden")
    assert staff.log_in("gosha", PASSWORD)


def test_weak_password_is_refused(staff: Company) -> None:
    add = ("user", "add", "eve", "--email", email_of("eve"), "--role", "worker", "--password-stdin")
    staff.run(*add, as_user="ada", input="elevenchars\n").refused(2, "password_too_weak")
    passwd = ("user", "passwd", "kesha", "--password-stdin")
    staff.run(*passwd, as_user="ada", input="\n").refused(2, "password_too_weak")
    staff.run("user", "show", "eve", as_user="ada").refused(3, "user_not_found")


def test_imported_people_log_in_once_they_have_a_password(company: Company) -> None:
    lines: list[Json | str] = [
        {"username": "petya", "email": "petya@popug.example", "role": "worker"},
        {"username": "polly", "email": "polly@popug.example", "role": "manager"},
    ]
    file = str(company.write_lines(lines, "people.jsonl"))
    first, second = (company.ask("ada", "user", "import", file) for _ in range(2))
    assert pick(first, "imported", "skipped") == {"imported": 2, "skipped": 0}
    assert pick(second, "imported", "skipped") == {"imported": 0, "skipped": 2}
    polly = company.ask("ada", "user", "show", "polly")
    assert (polly["email"], polly["role"], polly["active"]) == ("polly@popug.example", "manager", True)
    company.run("login", "polly", "--password-stdin", input=PASSWORD + "\n").refused(4, "bad_credentials")
    company.run("user", "passwd", "polly", "--password-stdin", as_user="ada", input=PASSWORD + "\n").ok()
    assert company.ask("polly", "tasks", "shuffle", "--yes")["task_count"] == 0


BAD_PEOPLE: dict[str, Json | str] = {
    "email": {"username": "vera", "email": "no address", "role": "worker"},
    "role": {"username": "vera", "email": "vera@popug.example", "role": "king"},
    "no-name": {"email": "vera@popug.example", "role": "worker"},
    "not-json": '{"username": "vera", "email"',
}


def test_import_of_users_with_bad_line_names_it_and_adds_none(staff: Company) -> None:
    good: Json = {"username": "eve", "email": email_of("eve"), "role": "worker"}
    files = [str(staff.write_lines([good, bad], f"{name}.jsonl")) for name, bad in BAD_PEOPLE.items()]
    results = staff.run_all(("ada", ("user", "import", file)) for file in files)
    for file, result in zip(files, results, strict=True):
        error = result.refused_with_exit(2)
        assert re.search(r"\b2\b", f"{error['message']} {error['details']}".replace(file, "")), result
    staff.run("user", "show", "eve", as_user="ada").refused(3, "user_not_found")


# --- permissions --------------------------------------------------------------------------------

FORBIDDEN = [
    *((who, "tasks shuffle --yes") for who in ("kesha", "asya")),
    *((who, "income") for who in ("kesha", "mira")),
    *((who, "close-day") for who in ("kesha", "mira")),
    *((who, "analytics") for who in ("kesha", "mira", "asya")),
    ("kesha", "balance gosha"),
    ("mira", "statement gosha"),
    ("asya", "user list"),
    ("mira", "user deactivate kesha"),
    ("kesha", "user set-role kesha admin"),
]


def test_command_refused_for_a_role_without_the_right(staff: Company) -> None:
    results = staff.run_all((who, command.split()) for who, command in FORBIDDEN)
    assert len(results) == len(FORBIDDEN)
    for result in results:
        result.refused(5, "forbidden")


# --- deactivation and reactivation --------------------------------------------------------------


def holders(company: Company) -> list[tuple[str, str]]:
    """Status and assignee of each task by number."""
    return [(task["status"], task["assignee"]) for task in company.tasks()]


def fees_of(company: Company, name: str) -> list[int]:
    """Return the numbers of the tasks that this user was charged for today, one for each charge."""
    entries = company.statement("ada", name)["entries"]
    return sorted(entry["task"]["number"] for entry in entries if entry["kind"] == "fee")


def test_open_tasks_of_a_deactivated_user_move_and_are_charged(lone: Company) -> None:
    lone.import_tasks("kesha", ["Feed the cage", "Sweep the floor", "Mend the swing"])
    lone.complete("kesha", 1)
    lone.hire("gosha", "worker")
    gone = lone.ask("ada", "user", "deactivate", "kesha")
    assert (gone["username"], gone["active"]) == ("kesha", False)
    assert holders(lone) == [("completed", "kesha"), ("open", "gosha"), ("open", "gosha")]
    assert (fees_of(lone, "kesha"), fees_of(lone, "gosha")) == ([1, 2, 3], [2, 3])

    lone.run("whoami", as_user="kesha").refused_with_exit(4)
    lone.run("login", "kesha", "--password-stdin", input=PASSWORD + "\n").refused_with_exit(4)

    lone.ask("ada", "user", "set-role", "gosha", "manager")  # there is no other candidate: they stay
    assert holders(lone) == [("completed", "kesha"), ("open", "gosha"), ("open", "gosha")]
    assert fees_of(lone, "gosha") == [2, 3]

    assert lone.ask("ada", "user", "activate", "kesha")["active"] is True  # and move as soon as there is one
    assert holders(lone) == [("completed", "kesha"), ("open", "kesha"), ("open", "kesha")]
    assert (fees_of(lone, "kesha"), fees_of(lone, "gosha")) == ([1, 2, 2, 3, 3], [2, 3])
    assert lone.log_in("kesha")


def test_user_made_manager_loses_open_tasks(lone: Company) -> None:
    lone.import_tasks("kesha", ["Feed the cage", "Sweep the floor"])
    lone.hire("gosha", "worker")
    lone.ask("ada", "user", "set-role", "kesha", "manager")
    assert holders(lone) == [("open", "gosha"), ("open", "gosha")]
    assert fees_of(lone, "gosha") == [1, 2]
    lone.log_in_again("kesha")
    lone.run("task", "complete", "1", as_user="kesha").refused(6, "task_reassigned")
    assert lone.complete("gosha", 1)["status"] == "completed"


def test_balance_of_a_deactivated_user_is_paid(earned: Company) -> None:
    cents = earned.balance_cents("ada", "kesha")
    assert cents > 0
    earned.ask("ada", "user", "deactivate", "kesha")
    (day,) = earned.ask("ada", "close-day")["days"]
    assert payouts_of(day) == [("kesha", cents)]
    assert earned.balance_cents("ada", "kesha") == 0

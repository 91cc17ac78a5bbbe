"""Users: added, imported, changed; the published changes, and the tokens that they revoke."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from popug_cli.app import LocalBackend
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.home import Home
from popug_cli.messages.base import Command, Message
from popug_cli.messages.billing import GetBalance
from popug_cli.messages.identity import (
    ActivateUser,
    AddUser,
    DeactivateUser,
    ImportUsers,
    ListUsers,
    LogIn,
    NewPerson,
    RecoverAdmin,
    RegisterFirstAdmin,
    SetEmail,
    SetPassword,
    SetRole,
    ShowUser,
    WhoAmI,
)
from popug_cli.messages.principal import OPERATOR
from tests.support.company import PASSWORD
from tests.support.error_checks import refused
from tests.support.identity_company import People

FIRST = RegisterFirstAdmin(username="ada", email="ada@example.com", password=PASSWORD)


# --- the first admin ----------------------------------------------------------------------------


def test_first_admin_is_registered_by_the_operator(people: People) -> None:
    boss = people.act("boss", WhoAmI())
    assert (boss.username, boss.email, boss.role, boss.active) == ("boss", "boss@example.com", "admin", True)
    assert people.events()[0] == "user_registered operator"
    assert people.log_in("boss").user == boss


def test_second_first_admin_is_refused(people: People) -> None:
    with refused("already_initialised", 6, {"home": str(people.root)}):
        people.backend.perform(FIRST)
    assert "ada" not in {user.username for user in people.act("boss", ListUsers()).users}


@pytest.mark.parametrize(
    ("changes", "zone", "code"),
    [
        ({"username": "a da"}, "UTC", "invalid_username"),
        ({"email": "ada"}, "UTC", "invalid_email"),
        ({"password": "short"}, "UTC", "password_too_weak"),
        ({}, "Mars/Olympus", "invalid_time_zone"),
    ],
)
def test_init_refused_for_an_invalid_admin_or_zone(
    tmp_path: Path, changes: dict[str, str], zone: str, code: str
) -> None:
    backend = LocalBackend(Home(tmp_path / "home"))
    with refused(code, 2):
        backend.create_company(zone, msgspec.structs.replace(FIRST, **changes))
    assert list(tmp_path.iterdir()) == []


def test_weak_password_of_first_admin_refused_in_empty_company(tmp_path: Path) -> None:
    backend = LocalBackend(Home(tmp_path / "home"))
    backend.create_company("UTC")
    with refused("password_too_weak", 2):
        backend.perform(msgspec.structs.replace(FIRST, password="short"), actor=OPERATOR)


# --- new users ----------------------------------------------------------------------------------


def test_added_user_is_active_and_reveals_no_secret(people: People) -> None:
    head = people.head()
    user = people.act("boss", AddUser(username="GoSha", email="G@example.com", role="worker", password=PASSWORD))
    assert (user.username, user.email, user.role, user.active) == ("gosha", "G@example.com", "worker", True)
    assert people.events(head) == ["user_registered boss"]
    assert people.act("boss", ShowUser(username="GOSHA")) == user
    assert people.log_in("Gosha").user == user


@pytest.mark.parametrize(
    ("username", "email", "code", "details"),
    [
        ("Kesha", "new@example.com", "username_taken", {"username": "kesha"}),
        ("gosha", "KESHA@example.com", "email_taken", {"email": "KESHA@example.com", "username": "kesha"}),
    ],
)
def test_duplicate_name_or_address_is_refused(
    people: People, username: str, email: str, code: str, details: dict[str, str]
) -> None:
    people.act("boss", DeactivateUser(username="kesha"))
    head = people.head()
    with refused(code, 6, details):
        people.act("boss", AddUser(username=username, email=email, role="worker"))
    assert people.events(head) == []


def test_invalid_new_user_changes_nothing(people: People) -> None:
    head = people.head()
    with refused("password_too_weak", 2):
        people.act("boss", AddUser(username="gosha", email="g@example.com", role="worker", password="gosha-gosha-1"))
    with refused("invalid_role", 2):
        people.act("boss", AddUser(username="gosha", email="g@example.com", role="king"))
    assert people.events(head) == []


def test_users_are_never_deleted(people: People) -> None:
    with (
        pytest.raises(Exception, match="never deleted"),
        people.backend.runtime.writing(people.people["boss"]) as context,
    ):
        context.connection.execute("DELETE FROM identity_users")


def person(name: str, role: str = "worker", email: str = "") -> NewPerson:
    return NewPerson(username=name, email=email or f"{name}@example.com", role=role)


def test_many_are_imported_once(people: People) -> None:
    lines = [
        person("polly"),
        None,
        person("kesha", email="Kesha@Example.com"),
        person("Vera", "manager"),
        person("polly"),
    ]
    head = people.head()
    first = people.act("boss", ImportUsers(people=lines))
    assert (first.imported, first.skipped) == (2, 2)
    assert people.events(head) == ["user_registered boss"] * 2
    again = people.act("boss", ImportUsers(people=lines))
    assert (again.imported, again.skipped) == (0, 4)
    assert people.events(head) == ["user_registered boss"] * 2
    with refused("bad_credentials", 4):
        people.log_in("polly")


@pytest.mark.parametrize(
    ("bad", "code", "status"),
    [
        (person("a b"), "invalid_username", 2),
        (person("vera", email="vera"), "invalid_email", 2),
        (person("vera", "king"), "invalid_role", 2),
        (person("kesha", "manager"), "username_taken", 6),
        (person("kesha", email="other@example.com"), "username_taken", 6),
        (person("vera", email="Kesha@example.com"), "email_taken", 6),
        (person("polly", "manager"), "username_taken", 6),
        (person("vera", email="POLLY@example.com"), "email_taken", 6),
    ],
)
def test_import_with_a_bad_line_names_it_and_adds_no_user(
    people: People, bad: NewPerson, code: str, status: int
) -> None:
    head = people.head()
    with refused(code, status) as error:
        people.act("boss", ImportUsers(people=[person("polly"), None, bad]))
    assert error.value.details["line"] == 3
    assert error.value.message.startswith("Line 3: ")
    assert people.events(head) == []
    with refused("user_not_found", 3):
        people.act("boss", ShowUser(username="polly"))


def test_import_of_thousands_is_one_step(people: People) -> None:
    answer = people.act("boss", ImportUsers(people=[person(f"popug-{number}") for number in range(3000)]))
    assert (answer.imported, answer.skipped) == (3000, 0)
    assert len(people.act("boss", ListUsers()).users) == 3004


# --- changes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "published"),
    [
        (SetRole(username="Kesha", role="manager"), ["user_role_changed boss"]),
        (SetEmail(username="kesha", email="new@example.com"), ["user_email_changed boss"]),
        (SetEmail(username="kesha", email="Kesha@example.com"), ["user_email_changed boss"]),
        (DeactivateUser(username="kesha"), ["user_deactivated boss"]),
        (SetPassword(username="kesha", password="another good one"), ["password_changed boss"]),
        (SetRole(username="kesha", role="worker"), []),
        (SetEmail(username="kesha", email="kesha@example.com"), []),
        (ActivateUser(username="kesha"), []),
    ],
)
def test_change_is_published_once_and_a_repeat_not(people: People, message: Message[Any], published: list[str]) -> None:
    head = people.head()
    answer = people.act("boss", message)
    assert people.events(head) == published
    shown = msgspec.structs.asdict(people.act("boss", ShowUser(username="kesha")))
    assert shown.items() <= msgspec.structs.asdict(answer).items()
    if not isinstance(message, SetPassword):
        assert people.act("boss", message) == answer
        assert people.events(head) == published


def test_published_change_has_the_changed_values(people: People) -> None:
    head, user_id = people.head(), people.people["kesha"].user_id
    messages: tuple[Message[Any], ...] = (
        SetRole(username="kesha", role="manager"),
        SetEmail(username="kesha", email="new@example.com"),
        SetPassword(username="kesha", password="another good one"),
        DeactivateUser(username="kesha"),
        ActivateUser(username="kesha"),
    )
    for message in messages:
        people.act("boss", message)
    assert people.published_events(head) == [
        ("user_role_changed", {"user_id": user_id, "old_role": "worker", "new_role": "manager"}),
        ("user_email_changed", {"user_id": user_id, "email": "new@example.com"}),
        ("password_changed", {"user_id": user_id}),
        ("user_deactivated", {"user_id": user_id}),
        ("user_reactivated", {"user_id": user_id}),
    ]


def test_deactivated_user_is_reactivated(people: People) -> None:
    assert people.act("boss", DeactivateUser(username="kesha")).active is False
    assert people.act("boss", DeactivateUser(username="kesha")).active is False
    head = people.head()
    assert people.act("boss", ActivateUser(username="kesha")).active is True
    assert people.events(head) == ["user_reactivated boss"]
    assert people.log_in().user.active


@pytest.mark.parametrize(
    "message",
    [
        ShowUser(username="nobody"),
        SetRole(username="nobody", role="worker"),
        SetEmail(username="nobody", email="a@b"),
        DeactivateUser(username="nobody"),
        ActivateUser(username="nobody"),
        SetPassword(username="nobody", password=PASSWORD),
        RecoverAdmin(username="nobody", password=PASSWORD),
    ],
    ids=lambda message: type(message).__name__,
)
def test_unknown_user_is_not_found(people: People, message: Command[Any]) -> None:
    with refused("user_not_found", 3, {"username": "nobody"}):
        people.act("boss", message)


def test_address_of_another_is_refused(people: People) -> None:
    with refused("email_taken", 6, {"email": "MIRA@example.com", "username": "mira"}):
        people.act("boss", SetEmail(username="kesha", email="MIRA@example.com"))
    with refused("invalid_email", 2):
        people.act("boss", SetEmail(username="kesha", email="kesha"))


# --- the last admin -----------------------------------------------------------------------------


def test_last_active_admin_cannot_be_removed(people: People) -> None:
    for message in (SetRole(username="boss", role="worker"), DeactivateUser(username="boss")):
        with refused("last_admin", 6, {"username": "boss"}):
            people.act("boss", message)
    people.act("boss", SetRole(username="mira", role="admin"))
    people.act("boss", DeactivateUser(username="mira"))
    with refused("last_admin", 6):
        people.act("boss", DeactivateUser(username="boss"))
    people.hire("zoe", "admin")
    assert people.act("zoe", DeactivateUser(username="boss")).active is False
    with refused("last_admin", 6):
        people.act("zoe", SetRole(username="zoe", role="manager"))


# --- recovery by the operator -------------------------------------------------------------------


def test_operator_recovers_an_admin(people: People) -> None:
    people.act("boss", DeactivateUser(username="kesha"))
    head = people.head()
    user = people.backend.perform(RecoverAdmin(username="Kesha", password="a new beginning"))
    assert (user.role, user.active) == ("admin", True)
    assert people.events(head) == [
        "user_role_changed operator",
        "user_reactivated operator",
        "password_changed operator",
        "admin_recovered operator",
    ]
    assert people.log_in("kesha", "a new beginning").user == user


def test_recover_revokes_tokens_and_ends_lockouts(people: People) -> None:
    session, machine = people.log_in().token, people.machine_token("kesha")
    for _ in range(6):
        with refused("bad_credentials", 4):
            people.log_in("kesha", "wrong")
    head = people.head()
    people.backend.perform(RecoverAdmin(username="kesha", password="a new beginning"))
    reasons = [data["reason"] for name, data in people.published_events(head) if name == "token_revoked"]
    assert reasons == ["recovered"] * 2
    recovered = {"user_id": people.people["kesha"].user_id, "username": "kesha"}
    assert people.published_events(head)[-1] == ("admin_recovered", recovered)
    assert not people.is_good(session)
    assert not people.is_good(machine)
    assert people.log_in("kesha", "a new beginning")


def test_recover_refused_with_a_weak_password(people: People) -> None:
    with refused("password_too_weak", 2):
        people.backend.perform(RecoverAdmin(username="kesha", password="kesha is back"))
    assert people.act("boss", ShowUser(username="kesha")).role == "worker"


# --- permissions --------------------------------------------------------------------------------


def test_refusal_names_the_permitted_roles(people: People) -> None:
    token = people.log_in().token
    with refused("forbidden", 5, {"command": "user set-role", "roles": ["admin"]}) as error:
        people.backend.perform(SetRole(username="kesha", role="admin"), token)
    assert error.value.message == "Only an admin may use `popug user set-role`."
    with refused("forbidden", 5, {"command": "balance", "roles": ["accountant", "admin"]}) as error:
        people.backend.perform(GetBalance(username="mira"), token)
    assert error.value.message == "Only an accountant or an admin may use `popug balance` for another user."
    assert people.backend.perform(GetBalance(username="KESHA"), token).username == "kesha"


# --- secrets ------------------------------------------------------------------------------------


def test_no_event_or_answer_contains_a_secret(people: People) -> None:
    session = people.log_in()
    people.machine_token("kesha")
    people.act("kesha", SetPassword(password="another good one"))
    log = str(people.rows("SELECT envelope FROM bus_log"))
    database = str(people.rows("SELECT * FROM identity_tokens")) + str(people.rows("SELECT * FROM identity_users"))
    for secret in (PASSWORD, "another good one", session.token):
        assert secret not in log
        assert secret not in database
    assert "argon2" not in log + str(people.act("boss", ListUsers()))


def test_failed_login_raises(people: People) -> None:
    with pytest.raises(PopugError):
        people.backend.perform(LogIn(username="kesha", password="wrong"))

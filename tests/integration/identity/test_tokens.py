"""Login, lockout, and a token from its issue to its end."""

import multiprocessing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from popug_cli.app import LocalBackend
from popug_cli.identity import token_store
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.home import Home
from popug_cli.messages.base import DECLARATIONS, Message
from popug_cli.messages.billing import CloseDay, GetBalance
from popug_cli.messages.identity import (
    AddUser,
    DeactivateUser,
    IssueToken,
    ListTokens,
    LogIn,
    LogOut,
    RevokeToken,
    RotateKey,
    Scope,
    SetPassword,
    SetRole,
    ShowKeys,
    TokenLine,
    WhoAmI,
)
from popug_cli.messages.mail import ListMails
from tests.support.company import PASSWORD, SeededChance, SetClock
from tests.support.error_checks import refused
from tests.support.identity_company import People, settle

WRONG = "not the password"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("template") / "home"


@pytest.fixture
def people(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> People:
    return settle(tmp_path / "home", template, monkeypatch)


def guess(people: People, times: int, name: str = "kesha") -> list[str]:
    """Log in with that many wrong passwords. Return the codes."""
    codes = []
    for _ in range(times):
        with pytest.raises(PopugError) as error:
            people.log_in(name, WRONG)
        codes.append(error.value.code)
    return codes


# --- login --------------------------------------------------------------------------------------


def test_session_lasts_twelve_hours(people: People) -> None:
    session = people.log_in("KESHA")
    assert session.expires_at - people.clock.instant == timedelta(hours=12)
    people.clock.advance(hours=11, minutes=59, seconds=59)
    assert people.is_good(session.token)
    people.clock.advance(seconds=1)
    with refused("token_expired", 4):
        people.backend.perform(WhoAmI(), session.token)


def test_session_lasts_as_long_as_its_setting(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPUG_IDENTITY_SESSION_HOURS", "1")
    people = People(people.root)
    assert people.log_in().expires_at - people.clock.instant == timedelta(hours=1)


def test_login_is_published_with_its_user_as_actor(people: People) -> None:
    head = people.head()
    token = people.log_in().token
    people.backend.perform(LogOut(), token)
    assert people.events(head) == ["token_issued kesha", "token_revoked kesha"]


def test_every_refused_login_gets_the_same_message(people: People) -> None:
    people.act("boss", AddUser(username="new", email="new@example.com", role="worker"))
    people.act("boss", AddUser(username="gone", email="gone@example.com", role="worker", password=PASSWORD))
    people.act("boss", DeactivateUser(username="gone"))
    said = set()
    cases = [
        ("kesha", WRONG),
        ("ghost", PASSWORD),
        ("new", PASSWORD),
        ("new", ""),
        ("gone", PASSWORD),
        ("a b", PASSWORD),
    ]
    for name, password in [*cases, ("kesha", ""), ("kesha", "\ud800"), ("kesha", "x" * 100_000), ("", "")]:
        with refused("bad_credentials", 4) as error:
            people.log_in(name, password)
        said.add((error.value.message, error.value.hint))
    assert len(said) == 1


# --- lockout ------------------------------------------------------------------------------------


def test_five_wrong_guesses_are_free(people: People) -> None:
    assert guess(people, 5) == ["bad_credentials"] * 5
    assert people.log_in()
    assert guess(people, 5) == ["bad_credentials"] * 5


def test_lockout_doubles_even_with_the_right_password(people: People) -> None:
    assert guess(people, 8) == ["bad_credentials"] * 6 + ["too_many_attempts"] * 2
    with refused("too_many_attempts", 4) as error:
        people.log_in()
    assert error.value.details == {"wait_seconds": 1}
    people.clock.advance(seconds=1)
    assert guess(people, 2) == ["bad_credentials", "too_many_attempts"]
    people.clock.advance(seconds=1)
    assert guess(people, 1) == ["too_many_attempts"]
    people.clock.advance(seconds=1)
    assert people.log_in()
    assert guess(people, 1) == ["bad_credentials"]


def test_lockout_is_at_most_15_minutes(people: People) -> None:
    for _ in range(20):
        guess(people, 1)
        people.clock.advance(minutes=15)
    assert people.log_in()


def test_unknown_name_is_locked_out_alike(people: People) -> None:
    assert guess(people, 7, "ghost") == guess(people, 7, "kesha")


def test_lockout_does_not_affect_other_users(people: People) -> None:
    guess(people, 7, "mira")
    assert people.log_in()


def test_new_password_ends_the_lockout(people: People) -> None:
    guess(people, 7)
    people.act("boss", SetPassword(username="kesha", password=PASSWORD))
    assert people.log_in()


def test_lockout_ends_when_the_clock_is_set_back(people: People) -> None:
    guess(people, 7)
    people.clock.advance(days=-400)
    assert people.log_in()


def test_old_failures_expire(people: People) -> None:
    guess(people, 6, "ghost")
    people.clock.advance(days=2)
    guess(people, 1)
    assert people.rows("SELECT username, failures FROM identity_throttle") == [{"username": "kesha", "failures": 1}]


def test_invalid_name_is_not_counted(people: People) -> None:
    assert guess(people, 8, "no name at all") == ["bad_credentials"] * 8
    assert people.rows("SELECT * FROM identity_throttle") == []


def _guess_thrice(root: Path) -> list[str]:
    backend = LocalBackend(Home(root), clock=SetClock())
    codes = []
    for _ in range(3):
        try:
            backend.perform(LogIn(username="kesha", password=WRONG))
        except PopugError as error:
            codes.append(error.code)
    return codes


def test_eight_guessing_processes_have_six_tries_in_all(people: People) -> None:
    people.backend.runtime.database.close()
    with multiprocessing.get_context("fork").Pool(8) as pool:
        codes = [code for each in pool.map(_guess_thrice, [people.root] * 8, chunksize=1) for code in each]
    assert sorted(codes) == ["bad_credentials"] * 6 + ["too_many_attempts"] * 18
    assert people.rows("SELECT failures FROM identity_throttle") == [{"failures": 6}]


# --- published events ---------------------------------------------------------------------------


def test_token_events_carry_user_kind_scope_and_reason(people: People) -> None:
    head, user_id = people.head(), people.people["kesha"].user_id
    issued = people.act("boss", IssueToken(username="kesha", ttl_seconds=60, scope=Scope.CLOSE_DAY))
    token = {"token_id": issued.token_id, "user_id": user_id}
    people.act("boss", RevokeToken(token_id=issued.token_id))
    assert people.published_events(head) == [
        ("token_issued", token | {"kind": "machine", "expires_at": "2026-03-02T09:01:00Z", "scope": "close-day"}),
        ("token_revoked", token | {"reason": "revoked"}),
    ]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (LogOut(), "logged_out"),
        (SetPassword(password="another good one"), "password_changed"),
        (SetRole(username="kesha", role="manager"), "role_changed"),
        (DeactivateUser(username="kesha"), "deactivated"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_end_of_session_is_published_with_its_reason(people: People, message: Message[Any], reason: str) -> None:
    token, head = people.log_in().token, people.head()
    if type(message) in {LogOut, SetPassword}:
        people.backend.perform(message, token)
    else:
        people.act("boss", message)
    (issued,) = [data["token_id"] for name, data in people.published_events(0) if name == "token_issued"]
    told = [data for name, data in people.published_events(head) if name == "token_revoked"]
    assert told == [{"token_id": issued, "user_id": people.people["kesha"].user_id, "reason": reason}]


# --- the end of a token -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "sessions_end", "machines_end"),
    [
        (SetRole(username="kesha", role="manager"), True, True),
        (DeactivateUser(username="kesha"), True, True),
        (SetPassword(username="kesha", password="another good one"), True, False),
        (SetRole(username="kesha", role="worker"), False, False),
        (SetRole(username="mira", role="worker"), False, False),
    ],
)
def test_user_changes_revoke_sessions_and_machine_tokens(
    people: People, message: Any, sessions_end: bool, machines_end: bool
) -> None:
    sessions, machine = [people.log_in().token for _ in range(2)], people.machine_token("kesha")
    people.act("boss", message)
    assert [people.is_good(token) for token in sessions] == [not sessions_end] * 2
    assert people.is_good(machine) is not machines_end


def test_revocation_is_published_for_valid_tokens_only(people: People) -> None:
    people.machine_token("kesha", ttl_seconds=1)
    people.log_in()
    people.clock.advance(seconds=1)
    people.log_in()
    head = people.head()
    people.act("boss", DeactivateUser(username="kesha"))
    assert people.events(head) == ["token_revoked boss"] * 2 + ["user_deactivated boss"]
    assert people.rows("SELECT count(*) AS good FROM identity_tokens WHERE revoked_at IS NULL") == [{"good": 0}]


@pytest.mark.parametrize("change", ["active = 0", "role = 'admin'", "username = 'gosha'"])
def test_token_is_revoked_if_its_user_row_was_edited(people: People, change: str) -> None:
    token = people.log_in().token
    with people.backend.runtime.writing(people.people["boss"]) as context:
        context.connection.execute(f"UPDATE identity_users SET {change} WHERE username = 'kesha'")
    assert not people.is_good(token)


def test_every_token_can_be_ended_at_once(people: People) -> None:
    tokens, head = [people.log_in(name).token for name in ("kesha", "boss")], people.head()
    with people.backend.runtime.writing(people.people["boss"]) as context:
        token_store.revoke_all_tokens(context, "restored")
    assert [data["reason"] for _, data in people.published_events(head)] == ["restored"] * 2
    assert not any(people.is_good(token) for token in tokens)


def test_revoked_token_stays_revoked(people: People) -> None:
    token = people.log_in().token
    people.act("boss", SetRole(username="kesha", role="manager"))
    people.act("boss", SetRole(username="kesha", role="worker"))
    assert not people.is_good(token)


def test_logging_out_ends_that_session_alone(people: People) -> None:
    first, second = people.log_in().token, people.log_in().token
    people.backend.perform(LogOut(), first)
    assert (people.is_good(first), people.is_good(second)) == (False, True)
    with refused("token_revoked", 4):
        people.backend.perform(LogOut(), first)


def test_own_new_password_ends_own_sessions(people: People) -> None:
    token = people.log_in().token
    people.backend.perform(SetPassword(password="another good one"), token)
    assert not people.is_good(token)
    with refused("bad_credentials", 4):
        people.log_in()
    assert people.log_in(password="another good one")


# --- machine tokens -----------------------------------------------------------------------------


def line_of(people: People, token_id: str) -> TokenLine:
    (line,) = [line for line in people.act("boss", ListTokens()).tokens if line.token_id == token_id]
    return line


def test_machines_token_is_listed_used_and_revoked(people: People) -> None:
    head = people.head()
    issued = people.act("boss", IssueToken(username="Asya", ttl_seconds=86400, scope=Scope.CLOSE_DAY))
    assert (issued.scope, issued.expires_at - people.clock.instant) == ("close-day", timedelta(days=1))
    line = line_of(people, issued.token_id)
    assert (line.username, line.kind, line.scope, line.last_used_at) == ("asya", "machine", "close-day", None)
    people.act("boss", RevokeToken(token_id=issued.token_id))
    people.act("boss", RevokeToken(token_id=issued.token_id))
    assert line_of(people, issued.token_id).revoked_at == people.clock.instant
    assert not people.is_good(issued.token)
    assert people.events(head) == ["token_issued boss", "token_revoked boss"]


def test_machine_token_records_time_of_last_command(people: People) -> None:
    issued = people.act("boss", IssueToken(username="boss", ttl_seconds=86400))
    people.clock.advance(hours=1)
    people.backend.perform(WhoAmI(), issued.token)
    assert line_of(people, issued.token_id).last_used_at is None
    people.backend.perform(SetRole(username="mira", role="worker"), issued.token)
    assert line_of(people, issued.token_id).last_used_at == people.clock.instant


def test_scope_of_cron_closes_the_day_and_nothing_else(people: People) -> None:
    year = 365 * 86400
    issued = people.act("boss", IssueToken(username="asya", ttl_seconds=year, scope=Scope.CLOSE_DAY))
    people.clock.advance(hours=1)
    others: list[Message[Any]] = [WhoAmI(), LogOut(), SetPassword(password="another one"), ListMails(), GetBalance()]
    for message in others:
        command = DECLARATIONS[type(message)].command_line
        with refused("forbidden", 5, {"command": command, "scope": "close-day"}) as error:
            people.backend.perform(message, issued.token)
        assert f"`popug {command}`" in error.value.message
    assert line_of(people, issued.token_id).last_used_at is None
    assert people.backend.perform(CloseDay(), issued.token).days[0].closed
    assert line_of(people, issued.token_id).last_used_at == people.clock.instant
    people.act("boss", RevokeToken(token_id=issued.token_id))
    with refused("token_revoked", 4):
        people.backend.perform(CloseDay(), issued.token)


def test_use_of_a_session_is_not_recorded(people: People) -> None:
    people.act("boss", SetPassword(username="boss", password=PASSWORD))
    token = people.log_in("boss").token
    people.backend.perform(SetRole(username="mira", role="worker"), token)
    assert {line.last_used_at for line in people.act("boss", ListTokens()).tokens} == {None}


def test_expired_tokens_are_not_listed_and_the_latest_come_first(people: People) -> None:
    people.machine_token("kesha", ttl_seconds=10)
    people.clock.advance(seconds=5)
    people.machine_token("asya", ttl_seconds=10)
    people.machine_token("mira", ttl_seconds=10)
    listed = [line.username for line in people.act("boss", ListTokens()).tokens]
    assert (set(listed[:2]), listed[2]) == ({"asya", "mira"}, "kesha")
    people.clock.advance(seconds=5)
    assert "kesha" not in [line.username for line in people.act("boss", ListTokens()).tokens]


def test_token_is_issued_to_active_people_for_a_time_allowed(people: People) -> None:
    with refused("invalid_ttl", 2):
        people.act("boss", IssueToken(username="kesha", ttl_seconds=366 * 86400 + 1))
    with refused("user_not_found", 3):
        people.act("boss", IssueToken(username="ghost", ttl_seconds=1))
    people.act("boss", DeactivateUser(username="kesha"))
    with refused("user_inactive", 6, {"username": "kesha"}):
        people.act("boss", IssueToken(username="kesha", ttl_seconds=1))


def test_token_of_366_days_is_accepted(people: People) -> None:
    token = people.machine_token("kesha", ttl_seconds=366 * 86400)
    people.clock.advance(days=365)
    assert people.is_good(token)


def test_unknown_token_is_not_revoked(people: People) -> None:
    with refused("token_not_found", 3, {"token_id": "none"}):
        people.act("boss", RevokeToken(token_id="none"))


# --- keys ---------------------------------------------------------------------------------------


def test_tokens_of_the_old_key_stay_valid_after_rotation(people: People) -> None:
    (old,) = people.backend.perform(ShowKeys()).keys
    before, head = people.log_in().token, people.head()
    kid = people.act("boss", RotateKey()).kid
    after = people.log_in().token
    assert (people.is_good(before), people.is_good(after)) == (True, True)
    assert [key["kid"] for key in people.backend.perform(ShowKeys()).keys] == [kid, old["kid"]]
    assert people.events(head)[0] == "key_rotated boss"


def test_token_of_another_company_is_refused(people: People, tmp_path: Path) -> None:
    other = People(tmp_path / "other", chance=SeededChance(7))
    token = other.log_in().token
    with refused("token_invalid", 4):
        people.backend.perform(WhoAmI(), token)


def test_token_that_is_not_in_the_list_is_refused(people: People) -> None:
    token = people.log_in().token
    with people.backend.runtime.writing(people.people["boss"]) as context:
        context.connection.execute("DELETE FROM identity_tokens")
    assert not people.is_good(token)


def test_login_works_after_clock_set_back(people: People) -> None:
    before = people.log_in().token
    people.clock.advance(days=-30)
    assert people.is_good(people.log_in().token)
    assert people.is_good(before)

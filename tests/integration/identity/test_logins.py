"""Login, sessions, and the lockout after wrong guesses."""

import multiprocessing
from datetime import timedelta
from pathlib import Path

import pytest

from popug_cli.app import LocalBackend
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.home import Home
from popug_cli.messages.identity import (
    AddUser,
    DeactivateUser,
    LogIn,
    LogOut,
    SetPassword,
    WhoAmI,
)
from tests.support.company import PASSWORD, SetClock
from tests.support.error_checks import refused
from tests.support.identity_company import WRONG_PASSWORD, People

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
        ("kesha", WRONG_PASSWORD),
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


def test_login_works_after_clock_set_back(people: People) -> None:
    before = people.log_in().token
    people.clock.advance(days=-30)
    assert people.is_good(people.log_in().token)
    assert people.is_good(before)


# --- lockout ------------------------------------------------------------------------------------


def test_five_wrong_guesses_are_free(people: People) -> None:
    assert people.guess(5) == ["bad_credentials"] * 5
    assert people.log_in()
    assert people.guess(5) == ["bad_credentials"] * 5


def test_lockout_doubles_even_with_the_right_password(people: People) -> None:
    assert people.guess(8) == ["bad_credentials"] * 6 + ["too_many_attempts"] * 2
    with refused("too_many_attempts", 4) as error:
        people.log_in()
    assert error.value.details == {"wait_seconds": 1}
    people.clock.advance(seconds=1)
    assert people.guess(2) == ["bad_credentials", "too_many_attempts"]
    people.clock.advance(seconds=1)
    assert people.guess(1) == ["too_many_attempts"]
    people.clock.advance(seconds=1)
    assert people.log_in()
    assert people.guess(1) == ["bad_credentials"]


def test_lockout_is_at_most_15_minutes(people: People) -> None:
    for _ in range(20):
        people.guess(1)
        people.clock.advance(minutes=15)
    assert people.log_in()


def test_unknown_name_is_locked_out_alike(people: People) -> None:
    assert people.guess(7, "ghost") == people.guess(7, "kesha")


def test_lockout_does_not_affect_other_users(people: People) -> None:
    people.guess(7, "mira")
    assert people.log_in()


def test_new_password_ends_the_lockout(people: People) -> None:
    people.guess(7)
    people.act("boss", SetPassword(username="kesha", password=PASSWORD))
    assert people.log_in()


def test_lockout_ends_when_the_clock_is_set_back(people: People) -> None:
    people.guess(7)
    people.clock.advance(days=-400)
    assert people.log_in()


def test_old_failures_expire(people: People) -> None:
    people.guess(6, "ghost")
    people.clock.advance(days=2)
    people.guess(1)
    assert people.rows("SELECT username, failures FROM identity_throttle") == [{"username": "kesha", "failures": 1}]


def test_invalid_name_is_not_counted(people: People) -> None:
    assert people.guess(8, "no name at all") == ["bad_credentials"] * 8
    assert people.rows("SELECT * FROM identity_throttle") == []


def _guess_thrice(root: Path) -> list[str]:
    backend = LocalBackend(Home(root), clock=SetClock())
    codes = []
    for _ in range(3):
        try:
            backend.perform(LogIn(username="kesha", password=WRONG_PASSWORD))
        except PopugError as error:
            codes.append(error.code)
    return codes


def test_eight_guessing_processes_have_six_tries_in_all(people: People) -> None:
    people.backend.runtime.database.close()
    with multiprocessing.get_context("fork").Pool(8) as pool:
        codes = [code for each in pool.map(_guess_thrice, [people.root] * 8, chunksize=1) for code in each]
    assert sorted(codes) == ["bad_credentials"] * 6 + ["too_many_attempts"] * 18
    assert people.rows("SELECT failures FROM identity_throttle") == [{"failures": 6}]

"""A device that has logged in before has a lockout of its own; lockouts are published."""

from datetime import timedelta
from pathlib import Path

import pytest

from popug_cli.kernel.errors import PopugError
from popug_cli.messages.identity import SetPassword, WhoAmI
from tests.support.company import PASSWORD, SeededChance
from tests.support.error_checks import refused
from tests.support.identity_company import People


def test_known_device_logs_in_during_guesses_by_others(people: People) -> None:
    device = people.log_in().device_token
    assert people.guess(8) == ["bad_credentials"] * 6 + ["too_many_attempts"] * 2
    with refused("too_many_attempts", 4):
        people.log_in()
    assert people.log_in("KESHA", device_token=device).user.username == "kesha"
    with refused("too_many_attempts", 4):
        people.log_in()


def test_known_device_that_guesses_locks_only_itself(people: People) -> None:
    device, other = people.log_in().device_token, people.log_in().device_token
    assert people.guess(7, device_token=device) == ["bad_credentials"] * 6 + ["too_many_attempts"]
    with refused("too_many_attempts", 4):
        people.log_in(device_token=device)
    assert people.log_in(device_token=other).token
    assert people.log_in().token
    people.clock.advance(seconds=1)
    assert people.log_in(device_token=device).token


def test_renewed_device_token_does_not_reset_its_count(people: People) -> None:
    device = people.log_in().device_token
    renewed = people.log_in(device_token=device).device_token
    assert people.guess(6, device_token=renewed) == ["bad_credentials"] * 6
    assert people.guess(1, device_token=device) == ["too_many_attempts"]


def unknown_tokens(people: People, tmp_path: Path) -> dict[str, str]:
    session = people.log_in()
    other_company = People(tmp_path / "other", chance=SeededChance(7))
    head, payload, signature = session.device_token.split(".")
    return {
        "empty": "",
        "garbage": "polly.wants.crackers",
        "not ASCII": "ключ.от.клетки",
        "lone surrogate": "\udce9.a.b",
        "too long": "x" * 10_000,
        "session": session.token,
        "machine": people.machine_token("kesha"),
        "another user's": people.log_in("boss").device_token,
        "another company's": other_company.log_in().device_token,
        "cut signature": f"{head}.{payload}.{signature[:-8]}",
        "no signature": f"{head}.{payload}.",
    }


def test_only_own_device_token_is_known(people: People, tmp_path: Path) -> None:
    people.act("boss", SetPassword(username="boss", password=PASSWORD))
    tokens = unknown_tokens(people, tmp_path)
    people.guess(6)
    for name, token in tokens.items():
        with pytest.raises(PopugError) as error:
            people.log_in(device_token=token)
        assert error.value.code == "too_many_attempts", name


def test_device_token_expires(people: People) -> None:
    device = people.log_in().device_token
    people.clock.advance(days=365)
    people.guess(6)
    assert people.log_in(device_token=device).token
    people.clock.advance(days=1)
    people.guess(6)
    with refused("too_many_attempts", 4):
        people.log_in(device_token=device)


def test_device_token_is_not_a_login(people: People) -> None:
    device = people.log_in().device_token
    with refused("token_invalid", 4):
        people.backend.perform(WhoAmI(), device)


def test_new_password_ends_every_lockout(people: People) -> None:
    device = people.log_in().device_token
    people.guess(7)
    people.guess(7, device_token=device)
    people.guess(7, name="kesha-2")
    people.act("boss", SetPassword(username="kesha", password="another good one"))
    assert people.log_in(password="another good one").token
    assert people.log_in(password="another good one", device_token=device).token
    assert people.guess(1, name="kesha-2") == ["too_many_attempts"]


def test_lockout_is_published_once(people: People) -> None:
    head, user_id, start = people.head(), people.people["kesha"].user_id, people.clock.instant
    people.guess(5)
    assert people.published_events(head) == []
    people.guess(5)
    locked = {"user_id": user_id, "known_device": False}
    first = locked | {"failures": 6, "locked_until": _text(start + timedelta(seconds=1))}
    assert people.published_events(head) == [("login_locked", first)]
    people.clock.advance(seconds=1)
    people.guess(5)
    second = locked | {"failures": 7, "locked_until": _text(start + timedelta(seconds=3))}
    assert people.published_events(head) == [("login_locked", first), ("login_locked", second)]


def test_lockout_of_a_known_device_is_published_as_such(people: People) -> None:
    device = people.log_in().device_token
    head = people.head()
    people.guess(8, device_token=device)
    assert [(name, data["known_device"]) for name, data in people.published_events(head)] == [("login_locked", True)]


def test_lockout_of_an_unknown_name_is_not_published(people: People) -> None:
    head = people.head()
    assert people.guess(8, name="ghost")[-1] == "too_many_attempts"
    assert people.published_events(head) == []


def _text(instant: object) -> str:
    return str(instant).replace(" ", "T").replace("+00:00", "Z")

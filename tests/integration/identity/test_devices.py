"""A device that has logged in before has a lockout of its own; lockouts are published."""

from datetime import timedelta
from pathlib import Path

import pytest

from popug_cli.kernel.errors import PopugError
from popug_cli.messages.identity import LogIn, Session, SetPassword, WhoAmI
from tests.support.company import PASSWORD, SeededChance
from tests.support.error_checks import refused
from tests.support.identity_company import People, settle

WRONG = "not the password"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("template") / "home"


@pytest.fixture
def people(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> People:
    return settle(tmp_path / "home", template, monkeypatch)


def log_in(people: People, device_token: str | None, password: str = PASSWORD, name: str = "kesha") -> Session:
    return people.backend.perform(LogIn(username=name, password=password, device_token=device_token))


def guess(people: People, times: int, device_token: str | None = None, name: str = "kesha") -> list[str]:
    """Log in with that many wrong passwords. Return the codes."""
    codes = []
    for _ in range(times):
        with pytest.raises(PopugError) as error:
            log_in(people, device_token, WRONG, name)
        codes.append(error.value.code)
    return codes


def test_known_device_logs_in_during_guesses_by_others(people: People) -> None:
    device = log_in(people, None).device_token
    assert guess(people, 8) == ["bad_credentials"] * 6 + ["too_many_attempts"] * 2
    with refused("too_many_attempts", 4):
        log_in(people, None)
    assert log_in(people, device, name="KESHA").user.username == "kesha"
    with refused("too_many_attempts", 4):
        log_in(people, None)


def test_known_device_that_guesses_locks_only_itself(people: People) -> None:
    device, other = log_in(people, None).device_token, log_in(people, None).device_token
    assert guess(people, 7, device) == ["bad_credentials"] * 6 + ["too_many_attempts"]
    with refused("too_many_attempts", 4):
        log_in(people, device)
    assert log_in(people, other).token
    assert log_in(people, None).token
    people.clock.advance(seconds=1)
    assert log_in(people, device).token


def test_renewed_device_token_does_not_reset_its_count(people: People) -> None:
    device = log_in(people, None).device_token
    renewed = log_in(people, device).device_token
    assert guess(people, 6, renewed) == ["bad_credentials"] * 6
    assert guess(people, 1, device) == ["too_many_attempts"]


def unknown_tokens(people: People, tmp_path: Path) -> dict[str, str]:
    session = log_in(people, None)
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
        "another user's": log_in(people, None, name="boss").device_token,
        "another company's": other_company.log_in().device_token,
        "cut signature": f"{head}.{payload}.{signature[:-8]}",
        "no signature": f"{head}.{payload}.",
    }


def test_only_own_device_token_is_known(people: People, tmp_path: Path) -> None:
    people.act("boss", SetPassword(username="boss", password=PASSWORD))
    tokens = unknown_tokens(people, tmp_path)
    guess(people, 6)
    for name, token in tokens.items():
        with pytest.raises(PopugError) as error:
            log_in(people, token)
        assert error.value.code == "too_many_attempts", name


def test_device_token_expires(people: People) -> None:
    device = log_in(people, None).device_token
    people.clock.advance(days=365)
    guess(people, 6)
    assert log_in(people, device).token
    people.clock.advance(days=1)
    guess(people, 6)
    with refused("too_many_attempts", 4):
        log_in(people, device)


def test_device_token_is_not_a_login(people: People) -> None:
    device = log_in(people, None).device_token
    with refused("token_invalid", 4):
        people.backend.perform(WhoAmI(), device)


def test_new_password_ends_every_lockout(people: People) -> None:
    device = log_in(people, None).device_token
    guess(people, 7)
    guess(people, 7, device)
    guess(people, 7, name="kesha-2")
    people.act("boss", SetPassword(username="kesha", password="another good one"))
    assert log_in(people, None, "another good one").token
    assert log_in(people, device, "another good one").token
    assert guess(people, 1, name="kesha-2") == ["too_many_attempts"]


def test_lockout_is_published_once(people: People) -> None:
    head, user_id, start = people.head(), people.people["kesha"].user_id, people.clock.instant
    guess(people, 5)
    assert people.published_events(head) == []
    guess(people, 5)
    locked = {"user_id": user_id, "known_device": False}
    first = locked | {"failures": 6, "locked_until": _text(start + timedelta(seconds=1))}
    assert people.published_events(head) == [("login_locked", first)]
    people.clock.advance(seconds=1)
    guess(people, 5)
    second = locked | {"failures": 7, "locked_until": _text(start + timedelta(seconds=3))}
    assert people.published_events(head) == [("login_locked", first), ("login_locked", second)]


def test_lockout_of_a_known_device_is_published_as_such(people: People) -> None:
    device = log_in(people, None).device_token
    head = people.head()
    guess(people, 8, device)
    assert [(name, data["known_device"]) for name, data in people.published_events(head)] == [("login_locked", True)]


def test_lockout_of_an_unknown_name_is_not_published(people: People) -> None:
    head = people.head()
    assert guess(people, 8, name="ghost")[-1] == "too_many_attempts"
    assert people.published_events(head) == []


def _text(instant: object) -> str:
    return str(instant).replace(" ", "T").replace("+00:00", "Z")

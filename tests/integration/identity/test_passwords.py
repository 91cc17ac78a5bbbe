"""Passwords: hashed once, outside the write lock, with the configured parameters; every character counts."""

import sqlite3
from contextlib import closing
from typing import Any

import pytest

from popug_cli.identity.passwords import hash_password, is_password
from popug_cli.messages.base import Message
from popug_cli.messages.identity import AddUser, RecoverAdmin, SetPassword
from popug_cli.messages.principal import OPERATOR
from tests.support.company import PASSWORD
from tests.support.error_checks import refused
from tests.support.identity_company import CHEAP, People


def test_unknown_name_costs_as_much_hashing(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    import argon2

    work: list[str] = []
    for name in ("hash", "verify"):
        original = getattr(argon2.PasswordHasher, name)

        def counted(*args: Any, _original: Any = original, **kwargs: Any) -> Any:
            work.append("once")
            return _original(*args, **kwargs)

        monkeypatch.setattr(argon2.PasswordHasher, name, counted)
    for name in ("kesha", "ghost", "mira", "no name at all"):
        with refused("bad_credentials", 4):
            people.log_in(name, "not the password")
        assert work == ["once"], name
        work.clear()


@pytest.mark.parametrize(
    "message",
    [
        AddUser(username="new", email="new@example.com", role="worker", password=PASSWORD),
        SetPassword(username="kesha", password="another good one"),
        RecoverAdmin(username="kesha", password="another good one"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_new_password_is_hashed_once_outside_the_write_lock(
    people: People, monkeypatch: pytest.MonkeyPatch, message: Message[Any]
) -> None:
    import argon2

    others_wait: list[bool] = []
    original = argon2.PasswordHasher.hash

    def watched(*args: Any, **kwargs: Any) -> str:
        with closing(sqlite3.connect(people.backend.home.database, timeout=0)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
                others_wait.append(False)
            except sqlite3.OperationalError:
                others_wait.append(True)
        return original(*args, **kwargs)

    monkeypatch.setattr(argon2.PasswordHasher, "hash", watched)
    people.backend.perform_as(OPERATOR if isinstance(message, RecoverAdmin) else people.people["boss"], message)
    assert others_wait == [False]


def test_salt_comes_from_the_random_source(people: People) -> None:
    hashes = set()
    for _ in range(2):
        people.chance._random.seed(5)
        with people.backend.runtime.reading(OPERATOR) as context:
            hashes.add(hash_password(PASSWORD, context))
    assert len(hashes) == 1


def test_user_without_a_password_matches_none(people: People) -> None:
    with people.backend.runtime.reading(OPERATOR) as context:
        assert not is_password(PASSWORD, None, context)


def test_all_characters_of_the_longest_password_count(people: People) -> None:
    longest = "x" * 1023 + "y"
    people.act("boss", SetPassword(username="kesha", password=longest))
    for other in ("x" * 1023 + "z", longest + "z"):
        with refused("bad_credentials", 4):
            people.log_in("kesha", other)
    assert people.log_in("kesha", longest)


def test_login_rehashes_after_parameters_change(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    def parameters() -> str:
        found: str = people.rows("SELECT password_hash FROM identity_users WHERE username = 'kesha'")[0][
            "password_hash"
        ]
        return found.split("$")[3]

    people.log_in()
    assert parameters() == "m=8192,t=1,p=4"
    monkeypatch.setenv("POPUG_IDENTITY_ARGON2_TIME_COST", "2")
    monkeypatch.setenv("POPUG_IDENTITY_ARGON2_PARALLELISM", "2")
    people = People(people.root)
    with refused("bad_credentials", 4):
        people.log_in(password="not the password")
    assert parameters() == "m=8192,t=1,p=4"
    people.log_in()
    assert parameters() == "m=8192,t=2,p=2"
    assert people.log_in()


def test_default_is_argon2id_with_64_mebibytes(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in CHEAP:
        monkeypatch.delenv(variable)
    people = People(people.root)
    people.log_in()
    stored = people.rows("SELECT password_hash FROM identity_users WHERE username = 'kesha'")[0]["password_hash"]
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")

"""A password is hashed and compared outside the write lock."""

from pathlib import Path
from typing import Any

import pytest

from popug_cli.identity import passwords
from popug_cli.kernel.errors import InvalidInput, NotAuthenticated
from popug_cli.messages.identity import AddUser, LogIn, RecoverAdmin, SetPassword
from tests.support.company import PASSWORD, InProcess

OTHER = "another horse battery"


@pytest.fixture
def company(tmp_path: Path) -> InProcess:
    return InProcess(tmp_path / "home")


@pytest.fixture(autouse=True)
def watched(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Record whether the write lock was held at each hash."""
    held: list[bool] = []
    hasher = passwords._hasher

    def watch(context: Any) -> Any:
        held.append(context.connection.writes and context.connection.is_in_transaction())
        return hasher(context)

    monkeypatch.setattr(passwords, "_hasher", watch)
    return held


def login(company: InProcess, password: str) -> Any:
    return company.backend.perform(LogIn(username="boss", password=password))


@pytest.mark.parametrize("known", [True, False])
def test_login_is_compared_outside(company: InProcess, watched: list[bool], *, known: bool) -> None:
    watched.clear()
    if known:
        login(company, PASSWORD)
    else:
        with pytest.raises(NotAuthenticated):
            company.backend.perform(LogIn(username="nobody", password=PASSWORD))
    assert watched[0] is False
    assert watched.count(True) <= 1  # whether the hash is outdated is checked inside, which is cheap


def test_passwords_are_hashed_outside(company: InProcess, watched: list[bool]) -> None:
    watched.clear()
    company.act("boss", AddUser(username="kesha", email="kesha@example.com", role="worker", password=OTHER))
    company.act("boss", SetPassword(password=OTHER))
    company.backend.perform(RecoverAdmin(username="boss", password=PASSWORD))
    assert watched == [False] * 3
    assert login(company, PASSWORD).user.username == "boss"


def test_login_refused_if_password_changes_during_comparison(
    company: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old password was compared with the old hash, and then a new one was set."""
    compared = passwords.compare_ahead

    def late(*given: Any) -> Any:
        found = compared(*given)
        monkeypatch.setattr(passwords, "compare_ahead", compared)
        company.act("boss", SetPassword(password=OTHER))
        return found

    monkeypatch.setattr(passwords, "compare_ahead", late)
    with pytest.raises(NotAuthenticated) as refused:
        login(company, PASSWORD)
    assert refused.value.code == "bad_credentials"
    assert login(company, OTHER).token


def test_refused_command_computes_no_hash(company: InProcess, watched: list[bool]) -> None:
    watched.clear()
    with pytest.raises(InvalidInput):
        company.act("boss", AddUser(username="!", email="kesha@example.com", role="worker", password=OTHER))
    assert watched == []

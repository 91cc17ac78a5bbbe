"""What a machine token may not do, and which ones outlive a new password."""

from pathlib import Path
from traceback import format_exception
from typing import Any

import pytest

from popug_cli.identity import users
from popug_cli.messages.base import Message
from popug_cli.messages.identity import (
    AddUser,
    IssueToken,
    ListTokens,
    RevokeToken,
    Scope,
    SetPassword,
    SetRole,
    ShowUser,
    WhoAmI,
)
from popug_cli.messages.principal import OPERATOR
from tests.support.company import PASSWORD
from tests.support.error_checks import refused
from tests.support.identity_company import People, settle

A_DAY = 86_400
NEW = "another good one"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("template") / "home"


@pytest.fixture
def people(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> People:
    return settle(tmp_path / "home", template, monkeypatch)


@pytest.fixture
def session(people: People) -> str:
    """Return a session of the admin."""
    people.act("boss", SetPassword(username="boss", password=PASSWORD))
    return people.log_in("boss").token


@pytest.mark.parametrize(
    "message",
    [
        SetPassword(password=NEW),
        SetPassword(password=NEW, username="boss"),
        SetPassword(password=NEW, username="kesha"),
        SetPassword(password=""),
        AddUser(username="eve", email="eve@example.com", role="admin", password=NEW),
        IssueToken(username="boss", ttl_seconds=1),
        IssueToken(username="kesha", ttl_seconds=1),
        IssueToken(username="kesha", ttl_seconds=1, scope=Scope.CLOSE_DAY),
    ],
    ids=str,
)
def test_machine_token_makes_no_other_credentials(people: People, message: Message[Any]) -> None:
    token, head = people.machine_token("boss"), people.head()
    with refused("forbidden", 5) as error:
        people.backend.perform(message, token)
    assert "machine token" in error.value.message
    assert people.head() == head
    assert people.backend.perform(WhoAmI(), people.log_in().token).username == "kesha"


def test_machine_token_of_an_admin_manages_people(people: People) -> None:
    token = people.machine_token("boss")
    people.backend.perform(AddUser(username="eve", email="eve@example.com", role="worker"), token)
    assert people.backend.perform(SetRole(username="eve", role="manager"), token).role == "manager"
    people.backend.perform(RevokeToken(token_id=people.act("boss", ListTokens()).tokens[0].token_id), token)


def test_session_makes_other_credentials(people: People, session: str) -> None:
    issued = people.backend.perform(IssueToken(username="kesha", ttl_seconds=366 * A_DAY), session)
    assert people.is_good(issued.token)
    assert people.backend.perform(SetPassword(password=NEW, username="kesha"), session).username == "kesha"


@pytest.mark.parametrize(
    ("days", "scope", "allowed"),
    [
        (31, None, True),
        (32, None, False),
        (365, None, False),
        (365, Scope.CLOSE_DAY, True),
    ],
)
@pytest.mark.parametrize("name", ["boss", "BOSS"])
def test_own_token_outlives_no_login(
    people: People, session: str, name: str, days: int, scope: Scope | None, allowed: bool
) -> None:
    message = IssueToken(username=name, ttl_seconds=days * A_DAY, scope=scope)
    if allowed:
        assert people.backend.perform(message, session).scope == scope
        return
    with refused("forbidden", 5, {"max_ttl_seconds": 31 * A_DAY}):
        people.backend.perform(message, session)


def test_new_password_names_the_machine_tokens_that_stay(people: People, session: str) -> None:
    people.log_in()
    first = people.act("boss", IssueToken(username="kesha", ttl_seconds=A_DAY))
    people.clock.advance(seconds=1)
    second, revoked = (people.act("boss", IssueToken(username="kesha", ttl_seconds=A_DAY)) for _ in range(2))
    people.act("boss", RevokeToken(token_id=revoked.token_id))
    people.act("boss", IssueToken(username="kesha", ttl_seconds=1))
    people.machine_token("asya")
    people.clock.advance(seconds=1)
    answer = people.backend.perform(SetPassword(password=NEW, username="kesha"), session)
    assert [token.token_id for token in answer.machine_tokens] == [second.token_id, first.token_id]
    assert people.is_good(first.token)
    own = people.backend.perform(SetPassword(password=PASSWORD), people.log_in(password=NEW).token)
    assert [token.token_id for token in own.machine_tokens] == [second.token_id, first.token_id]
    assert people.act("boss", SetPassword(password=NEW, username="mira")).machine_tokens == []


def test_sql_error_does_not_contain_a_password_hash(people: People) -> None:
    kesha = people.act("boss", ShowUser(username="kesha"))
    statement = "CREATE TRIGGER fail BEFORE UPDATE ON identity_users BEGIN SELECT RAISE(ABORT, 'no'); END"

    def fail() -> None:
        with people.backend.runtime.writing(OPERATOR) as context:
            context.connection.execute(statement)
            users.set_password_hash(context, kesha, "$argon2id$secret")

    with pytest.raises(Exception, match="no") as error:
        fail()
    report = "".join(format_exception(error.value))
    assert "$secret" not in report.replace('"$argon2id$secret")', "")

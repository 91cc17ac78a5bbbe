"""Machine tokens: listed, used and revoked; they make no other credentials, and a new password leaves them valid."""

from datetime import timedelta
from traceback import format_exception
from typing import Any

import pytest

from popug_cli.identity import users
from popug_cli.messages.base import DECLARATIONS, Message
from popug_cli.messages.billing import CloseDay, GetBalance
from popug_cli.messages.identity import (
    AddUser,
    DeactivateUser,
    IssueToken,
    ListTokens,
    LogOut,
    RevokeToken,
    Scope,
    SetPassword,
    SetRole,
    ShowUser,
    TokenLine,
    WhoAmI,
)
from popug_cli.messages.mail import ListMails
from popug_cli.messages.principal import OPERATOR
from tests.support.company import PASSWORD
from tests.support.error_checks import refused
from tests.support.identity_company import People

A_DAY = 86_400
NEW = "another good one"


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

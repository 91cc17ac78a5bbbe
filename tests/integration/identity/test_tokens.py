"""A token from its issue to its end, the events about it, and the keys that sign it."""

from pathlib import Path
from typing import Any

import pytest

from popug_cli.identity import token_store
from popug_cli.messages.base import Message
from popug_cli.messages.identity import (
    DeactivateUser,
    IssueToken,
    LogOut,
    RevokeToken,
    RotateKey,
    Scope,
    SetPassword,
    SetRole,
    ShowKeys,
    WhoAmI,
)
from tests.support.company import SeededChance
from tests.support.error_checks import refused
from tests.support.identity_company import People

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
    ended = [data for name, data in people.published_events(head) if name == "token_revoked"]
    assert ended == [{"token_id": issued, "user_id": people.people["kesha"].user_id, "reason": reason}]


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


# --- keys ---------------------------------------------------------------------------------------


def test_tokens_of_the_old_key_stay_valid_after_rotation(people: People) -> None:
    (old,) = people.backend.perform(ShowKeys()).keys
    before, head = people.log_in().token, people.head()
    kid = people.act("boss", RotateKey()).kid
    after = people.log_in().token
    assert (people.is_good(before), people.is_good(after)) == (True, True)
    assert [key["kid"] for key in people.backend.perform(ShowKeys()).keys] == [kid, old["kid"]]
    assert people.events(head)[:2] == ["key_published boss", "key_rotated boss"]


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

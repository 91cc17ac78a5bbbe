"""The queries of completion about users: the user of an unscoped token, and users by prefix."""

import json
import sqlite3
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import closing

import pytest

from popug_cli.identity import shell_completion
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.messages.identity import DeactivateUser, IssueToken, LogOut, Scope
from tests.support.identity_company import People


@pytest.fixture
def database(people: People) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(people.backend.home.database)) as database:
        yield database


def test_viewer_is_found_only_for_a_valid_unscoped_token(people: People, database: sqlite3.Connection) -> None:
    def holder(token: str) -> shell_completion.Viewer | None:
        return shell_completion.find_viewer(database, token, to_rfc3339(people.clock.now()))

    viewer = shell_completion.Viewer(people.people["kesha"].user_id, "worker")
    session, ended = people.log_in().token, people.log_in().token
    people.backend.perform(LogOut(), ended)
    scoped = people.act("boss", IssueToken(username="kesha", ttl_seconds=60, scope=Scope.CLOSE_DAY)).token
    brief = people.machine_token("kesha", ttl_seconds=60)
    assert [holder(token) for token in (session, ended, scoped, brief)] == [viewer, None, None, viewer]
    people.clock.advance(seconds=60)
    assert (holder(session), holder(brief)) == (viewer, None)
    people.act("boss", DeactivateUser(username="kesha"))
    assert holder(session) is None


def test_token_of_any_length_is_read(people: People, database: sqlite3.Connection) -> None:
    people.log_in()
    (row,) = people.rows("SELECT token_id FROM identity_tokens")
    for length in range(20):
        claims = json.dumps({"jti": row["token_id"], "more": "x" * length}).encode()
        token = f"head.{urlsafe_b64encode(claims).decode().rstrip('=')}.signature"
        assert shell_completion.find_viewer(database, token, to_rfc3339(people.clock.now())) is not None


def test_users_complete_by_prefix(
    people: People, database: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [("asya", "accountant"), ("boss", "admin"), ("kesha", "worker"), ("mira", "manager")]
    assert shell_completion.users_with_prefix(database, "") == users
    assert shell_completion.users_with_prefix(database, "ke") == users[2:3]
    assert shell_completion.users_with_prefix(database, "esha") == []
    monkeypatch.setattr(shell_completion, "MAX_USERS", 2)
    assert shell_completion.users_with_prefix(database, "") == users[:2]

"""Each public key is published as an event, once, and a token names the position of the event that issued it."""

import json

import pytest

from popug_cli.identity import keys, published_keys, token_store, tokens
from popug_cli.kernel.errors import NotFound
from popug_cli.messages.identity import IssueToken, RecoverAdmin, RotateKey, ShowKeys, WhoAmI
from popug_cli.messages.principal import OPERATOR
from tests.support.company import PASSWORD
from tests.support.identity_company import People

KEY_EVENTS = (
    "SELECT sequence, subject, envelope FROM bus_log WHERE type = 'popug.identity.key_published.v1' ORDER BY sequence"
)


def published(people: People) -> list[dict[str, str]]:
    """Return the data of each event that publishes a key."""
    return [json.loads(row["envelope"])["data"] for row in people.rows(KEY_EVENTS)]


def known(people: People) -> list[dict[str, str]]:
    return [{"kid": key["kid"], "public_key": key["x"]} for key in people.backend.perform(ShowKeys()).keys]


def test_first_key_is_published_with_the_first_admin(people: People) -> None:
    assert published(people) == known(people)
    assert [row["subject"] for row in people.rows(KEY_EVENTS)] == [keys.active_key_id(people.backend.home)]


def test_each_key_is_published_once(people: People) -> None:
    for _ in range(2):
        people.act("boss", RotateKey())
        people.log_in()
        people.machine_token("boss")
    assert len(published(people)) == 3
    assert sorted(map(str, published(people))) == sorted(map(str, known(people)))


def test_key_that_replaces_a_damaged_one_is_published(people: People) -> None:
    keys.signing_key(people.backend.home)
    (file,) = people.backend.home.keys.glob("*.pem")
    file.unlink()
    people.backend.perform(RecoverAdmin(username="boss", password=PASSWORD), actor=OPERATOR)
    assert [event["kid"] for event in published(people)] == [file.stem, keys.active_key_id(people.backend.home)]


def test_keys_of_an_older_popug_are_published_with_a_token(people: People) -> None:
    """Its log has no event for them, and its tokens have no position."""
    with pytest.MonkeyPatch.context() as older:
        older.setattr(published_keys, "publish", lambda context: None)
        older.setattr(token_store, "replace", lambda claims, at: claims)
        people.act("boss", RotateKey())
        token = people.log_in().token
    assert (len(published(people)), len(known(people))) == (1, 2)
    assert tokens.unverified_claims(token).at is None
    assert people.is_good(token)
    head = people.head()
    people.log_in()
    people.log_in()
    assert [name for name, _ in people.published_events(head)] == ["key_published", "token_issued", "token_issued"]
    assert published(people)[1] == known(people)[0]


@pytest.mark.parametrize("kind", ["session", "machine"])
def test_token_says_its_kind_and_position(people: People, kind: str) -> None:
    people.machine_token("boss")
    token = people.log_in().token if kind == "session" else people.machine_token("kesha")
    claims = tokens.unverified_claims(token)
    (issued,) = people.rows(
        "SELECT sequence, envelope FROM bus_log WHERE type = 'popug.identity.token_issued.v1'"
        " ORDER BY sequence DESC LIMIT 1"
    )
    data = json.loads(issued["envelope"])["data"]
    assert (claims.at, claims.kind, claims.jti) == (issued["sequence"], data["kind"], data["token_id"])
    assert claims.kind == kind
    assert people.backend.perform(WhoAmI(), token)


def test_refused_token_publishes_no_key(people: People) -> None:
    head = people.head()
    with pytest.raises(NotFound, match="nobody-here"):
        people.act("boss", IssueToken(username="nobody-here", ttl_seconds=60))
    assert people.head() == head

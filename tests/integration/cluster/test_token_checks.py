"""The doctor of a service compares its copies of keys and its deny list with the events."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from popug_cli.identity import keys
from popug_cli.messages.company import Check, CheckHealth
from popug_cli.messages.identity import IssueToken, RevokeToken, RotateKey, SetRole
from popug_cli.messages.principal import OPERATOR
from tests.integration.cluster.token_services import TokenServices
from tests.support.identity_company import People

COPIES, NEWS = "token_copies_match_events", "news_of_identity"


@pytest.fixture
def services(tmp_path: Path) -> Iterator[TokenServices]:
    services = TokenServices(People(tmp_path / "home"), tmp_path / "services")
    people = services.people
    people.machine_token("kesha", 7200)
    issued = people.act("boss", IssueToken(username="kesha", ttl_seconds=7200))
    people.act("boss", RevokeToken(token_id=issued.token_id))
    people.act("boss", SetRole(username="kesha", role="manager"))
    people.machine_token("kesha", 7200)
    people.act("boss", RotateKey())
    services.sync()
    yield services
    services.close()


def checks(services: TokenServices, at: str = "tasks") -> dict[str, Check]:
    backend = services.tasks if at == "tasks" else services.identity.backend
    return {check.name: check for check in backend.perform(CheckHealth(), actor=OPERATOR).checks}


def test_copies_are_those_of_the_events(services: TokenServices) -> None:
    found = checks(services)
    assert (found[COPIES].ok, found[NEWS].ok, found[NEWS].attention) == (True, True, False)
    assert (found["keys"].ok, "users_match_events" in found, "tokens_match_events" in found) == (True, False, False)
    services.advance(hours=3)
    services.people.log_in()
    services.sync()
    assert services.rows("SELECT 1 FROM identity_revoked_tokens") == []
    assert checks(services)[COPIES].ok


@pytest.mark.parametrize(
    ("statement", "detail"),
    [
        ("DELETE FROM identity_revoked_tokens", "revoked by an event, but not here"),
        ("INSERT INTO identity_revoked_tokens VALUES ('t', '2027-01-01T00:00:00.000000Z')", "token t (no event"),
        ("DELETE FROM identity_token_owners", "no entry"),
        ("UPDATE identity_token_owners SET void_below = 0", "(void before 0, by the events before "),
        ("UPDATE identity_token_owners SET void_below = 99", "(void before 99, which no event says)"),
        ("UPDATE identity_token_owners SET expires_at = '2026'", "the entry goes before they have expired"),
        ("DELETE FROM identity_keys WHERE kid = (SELECT max(kid) FROM identity_keys)", "published, but not stored"),
        ("INSERT INTO identity_keys VALUES ('k', 'x', '2026')", "key k (no event publishes it)"),
        ("UPDATE identity_keys SET public_key = 'x'", "another key than the event's"),
    ],
)
def test_wrong_copy_is_found(services: TokenServices, statement: str, detail: str) -> None:
    services.execute(statement)
    found = checks(services)[COPIES]
    assert not found.ok
    assert detail in found.detail


def test_event_that_waits_is_no_violation(services: TokenServices) -> None:
    services.people.act("boss", SetRole(username="kesha", role="worker"))
    services.send()
    services.take()
    services.execute(
        "INSERT INTO bus_set_aside (consumer, sequence, subject, state, attempts, due_at, error, since)"
        " SELECT 'tokens', sequence, subject, 'dead', 1, NULL, 'x', time FROM bus_log"
        " WHERE type = 'popug.identity.user_role_changed.v1' ORDER BY sequence DESC LIMIT 1"
    )
    services.consume()
    found = checks(services)
    assert found[COPIES].ok
    assert found[NEWS].attention
    assert "events dead" in found[NEWS].detail


def test_silence_needs_attention(services: TokenServices) -> None:
    services.advance(seconds=61)
    found = checks(services)[NEWS]
    assert (found.ok, found.attention) == (True, True)
    assert found.detail.startswith("only what a worker may do is served: nothing newer than 2026-03-02 10:00:00")


def test_identity_has_the_checks_of_its_own_tables(services: TokenServices) -> None:
    found = checks(services, "identity")
    for name in ("users_match_events", "tokens_match_events", "keys_match_events", "keys"):
        assert found[name].ok
    assert COPIES not in found


def test_wrong_public_key_is_found_at_identity(services: TokenServices) -> None:
    assert at_identity(services, "DELETE FROM identity_keys").ok  # as the guide says about a stolen key
    found = at_identity(services, "INSERT INTO identity_keys VALUES ('k', 'x', '2026')")
    assert "key k (another key than its id says)" in found.detail
    kid = keys.active_key_id(services.identity.backend.home)
    found = at_identity(services, f"INSERT INTO identity_keys VALUES ('{kid}', 'x', '2026')")
    assert f"key {kid} (another key than its event says)" in found.detail
    assert not found.ok


def at_identity(services: TokenServices, statement: str) -> Check:
    with services.identity.backend.runtime.writing(OPERATOR) as context:
        context.connection.execute(statement)
    return checks(services, "identity")["keys_match_events"]

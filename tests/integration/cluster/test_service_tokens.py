"""A service verifies tokens with its own copies of identity's keys and a deny list, while events come late or not."""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from popug_cli.identity import service_authorization, tokens
from popug_cli.identity.keys import SigningKey, thumbprint
from popug_cli.messages.base import Event
from popug_cli.messages.identity import (
    ActivateUser,
    DeactivateUser,
    IssueToken,
    KeyPublished,
    LogOut,
    RevokeToken,
    RotateKey,
    SetPassword,
    SetRole,
    TokenRevoked,
    UserDeactivated,
    WhoAmI,
)
from popug_cli.messages.principal import OPERATOR
from tests.integration.cluster.token_services import ABOVE_WORKER, TokenServices, machine
from tests.support.company import PASSWORD
from tests.support.identity_company import People


def test_login_works_at_a_service_though_no_event_arrives(services: TokenServices) -> None:
    tokens = [services.people.log_in().token, machine(services, "mira"), machine(services, "boss")]
    assert [services.refusal(token) for token in tokens] == ["", "", ""]


VOIDING: dict[str, tuple[Callable[[TokenServices], object], bool, bool]] = {
    "password": (lambda s: s.people.act("boss", SetPassword(username="kesha", password=PASSWORD)), True, False),
    "role": (lambda s: s.people.act("boss", SetRole(username="kesha", role="manager")), True, True),
    "deactivated": (lambda s: s.people.act("boss", DeactivateUser(username="kesha")), True, True),
}


@pytest.mark.parametrize(("change", "voids_session", "voids_machine"), VOIDING.values(), ids=VOIDING)
@pytest.mark.parametrize("without_ids", [False, True])
def test_change_voids_tokens_issued_before_it(
    services: TokenServices, change: Callable[[TokenServices], object], voids_session: bool, voids_machine: bool,
    without_ids: bool,
) -> None:  # fmt: skip
    session, machine_token = services.people.log_in().token, machine(services, "kesha")
    services.sync()
    change(services)
    assert [services.refusal(session), services.refusal(machine_token)] == ["", ""]
    services.sync()
    if without_ids:  # the position alone voids them, too
        services.execute("DELETE FROM identity_revoked_tokens")
    expected = {True: "token_revoked", False: ""}
    assert services.refusal(session) == expected[voids_session]
    assert services.refusal(machine_token) == expected[voids_machine]


def test_token_issued_after_a_change_is_valid(services: TokenServices) -> None:
    services.people.act("boss", SetRole(username="kesha", role="manager"))
    services.people.act("boss", SetPassword(username="kesha", password=PASSWORD))
    later = services.people.log_in().token
    assert services.refusal(later) == ""
    services.sync()
    assert services.refusal(later) == ""


def test_reactivation_does_not_make_void_tokens_valid(services: TokenServices) -> None:
    token = machine(services, "kesha")
    services.people.act("boss", DeactivateUser(username="kesha"))
    services.people.act("boss", ActivateUser(username="kesha"))
    services.sync()
    services.execute("DELETE FROM identity_revoked_tokens")
    assert services.refusal(token) == "token_revoked"
    assert services.refusal(machine(services, "kesha")) == ""


def test_logout_and_revocation_reach_the_service(services: TokenServices) -> None:
    session, other = services.people.log_in().token, services.people.log_in().token
    issued = services.people.act("boss", IssueToken(username="kesha", ttl_seconds=3600))
    services.people.backend.perform(LogOut(), session)
    services.people.act("boss", RevokeToken(token_id=issued.token_id))
    services.sync()
    assert [services.refusal(token) for token in (session, issued.token, other)] == [
        "token_revoked", "token_revoked", ""
    ]  # fmt: skip


def test_token_from_before_the_cluster_holds_or_is_void(tmp_path: Path) -> None:
    """No event arrives: the service knows from its copy of the log which tokens are void."""
    people = People(tmp_path / "company")
    valid, revoked = people.log_in().token, people.log_in().token
    people.backend.perform(LogOut(), revoked)
    void = people.machine_token("mira")
    people.act("boss", SetRole(username="mira", role="worker"))
    people.act("boss", RotateKey())
    rotated = people.machine_token("mira")
    with people.backend.runtime.writing(OPERATOR) as context:
        context.connection.execute("INSERT INTO identity_keys VALUES ('of an older popug', 'x', '2025')")
    services = TokenServices(people, tmp_path / "services")
    assert services.rows("SELECT 1 FROM identity_keys WHERE public_key = 'x'") == []
    assert [services.refusal(token) for token in (valid, revoked, void, rotated)] == [
        "", "token_revoked", "token_revoked", ""
    ]  # fmt: skip
    services.close()


def test_token_without_position_is_void_in_a_cluster(services: TokenServices, monkeypatch: pytest.MonkeyPatch) -> None:
    from popug_cli.identity import token_store

    monkeypatch.setattr(token_store, "replace", lambda claims, at: claims)
    old = services.people.log_in().token
    assert services.refusal(old) == "token_revoked"
    assert services.refusal(old, WhoAmI(), services.identity.backend) == "token_revoked"


def test_key_of_rotation_is_waited_for_then_behind(services: TokenServices) -> None:
    before = services.people.log_in().token
    services.people.act("boss", RotateKey())
    after = services.people.log_in().token
    assert [services.refusal(before), services.refusal(after)] == ["", "behind"]
    services.sync()
    assert [services.refusal(before), services.refusal(after)] == ["", ""]


def test_key_in_the_log_is_consumed_during_the_wait(services: TokenServices) -> None:
    services.people.act("boss", RotateKey())
    token = services.people.log_in().token
    services.send()
    services.take()
    assert services.refusal(token) == ""


def test_token_of_a_key_that_identity_never_had(services: TokenServices, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused at once if the service has all events up to the token's position, else after the wait for its key."""
    monkeypatch.setattr(service_authorization, "KEY_WAIT_SECONDS", 30.0)
    claims = tokens.unverified_claims(machine(services, "boss"))
    services.sync()
    assert services.refusal(forged(claims)) == "token_invalid"
    monkeypatch.setattr(service_authorization, "KEY_WAIT_SECONDS", 0.2)
    assert services.refusal(forged(replace(claims, at=10**9))) == "behind"
    assert services.refusal(forged(replace(claims, at=10**9, iss="popug:elsewhere"))) == "token_invalid"
    assert services.refusal(forged(replace(claims, at=10**9, iat=claims.iat - 9, exp=claims.iat))) == "token_expired"
    assert services.refusal(forged(replace(claims, at=None))) == "token_revoked"


def forged(claims: tokens.Claims) -> str:
    key = Ed25519PrivateKey.from_private_bytes(b"f" * 32)
    return tokens.sign(claims, SigningKey(thumbprint(key.public_key()), key))


def test_waiting_threads_are_limited(services: TokenServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_authorization, "KEY_WAIT_SECONDS", 60.0)
    token = forged(replace(tokens.unverified_claims(machine(services, "boss")), at=10**9))
    limit = service_authorization.MAX_WAITING_THREADS
    assert all(service_authorization._waiting_threads.acquire(blocking=False) for _ in range(limit))
    try:
        assert services.refusal(token) == "behind"
    finally:
        service_authorization._waiting_threads.release(limit)


def publish_at_identity(services: TokenServices, *events: Event) -> None:
    with services.identity.backend.runtime.writing(OPERATOR) as context:
        for event in events:
            context.events.publish(event)


def test_key_that_is_not_that_of_its_id_is_a_dead_letter(services: TokenServices) -> None:
    manager = machine(services, "mira")
    kid = thumbprint(Ed25519PrivateKey.from_private_bytes(b"f" * 32).public_key())
    publish_at_identity(services, KeyPublished(kid=kid, public_key="A" * 43))
    services.sync()
    assert services.rows("SELECT consumer, state FROM bus_set_aside") == [{"consumer": "tokens", "state": "dead"}]
    assert services.rows(f"SELECT 1 FROM identity_keys WHERE kid = '{kid}'") == []
    assert [services.refusal(manager), services.refusal(manager, ABOVE_WORKER)] == ["", "behind"]
    services.execute("UPDATE bus_set_aside SET state = 'dropped'")
    services.sync()
    assert services.refusal(manager, ABOVE_WORKER) == ""


def test_event_of_another_service_cannot_add_a_key_or_void(services: TokenServices) -> None:
    key = Ed25519PrivateKey.from_private_bytes(b"f" * 32).public_key()
    kid, public_key = thumbprint(key), urlsafe_b64encode(key.public_bytes_raw()).rstrip(b"=").decode()
    session = services.people.log_in()
    services.sync()
    with services.tasks.runtime.writing(OPERATOR) as context:
        context.events.publish(KeyPublished(kid=kid, public_key=public_key))
        context.events.publish(UserDeactivated(user_id=session.user.user_id))
    services.consume()
    assert services.rows(f"SELECT 1 FROM identity_keys WHERE kid = '{kid}'") == []
    assert services.refusal(session.token) == ""


# --- positions that tie ---------------------------------------------------------------------------


def test_token_at_the_position_of_a_void_event_is_valid(services: TokenServices) -> None:
    issued = machine(services, "kesha")
    services.sync()
    position = tokens.unverified_claims(issued).at
    assert position is not None
    services.execute(f"UPDATE identity_token_owners SET void_below = {position} WHERE kind = 'machine'")
    assert services.refusal(issued) == ""
    services.execute(f"UPDATE identity_token_owners SET void_below = {position + 1} WHERE kind = 'machine'")
    assert services.refusal(issued) == "token_revoked"


def test_position_decides_if_all_happens_in_one_instant(services: TokenServices) -> None:
    """Both times are equal, and identity's clock stands still, so only positions tell them apart."""
    before = services.people.log_in().token
    services.people.act("boss", SetPassword(username="kesha", password=PASSWORD))
    after = services.people.log_in().token
    services.sync()
    services.execute("DELETE FROM identity_revoked_tokens")
    assert [services.refusal(before), services.refusal(after)] == ["token_revoked", ""]


@pytest.mark.parametrize("hours", [-3, 3])
def test_clock_of_identity_may_differ(services: TokenServices, hours: int) -> None:
    services.people.clock.advance(hours=hours)
    services.broker_clock.instant = services.tasks_clock.instant
    before = machine(services, "kesha", 86_400)
    services.people.act("boss", SetRole(username="kesha", role="manager"))
    after = machine(services, "kesha", 86_400)
    services.sync()
    assert [services.refusal(before), services.refusal(after, ABOVE_WORKER)] == ["token_revoked", ""]


# --- entries expire -------------------------------------------------------------------------------

ENTRIES = "SELECT kind, void_below > 0 AS is_void FROM identity_token_owners ORDER BY kind"


def test_entries_go_when_their_tokens_have_expired(services: TokenServices) -> None:
    issued = services.people.act("boss", IssueToken(username="kesha", ttl_seconds=3600))
    services.people.act("boss", IssueToken(username="kesha", ttl_seconds=7200))
    services.people.act("boss", RevokeToken(token_id=issued.token_id))
    services.people.act("boss", SetPassword(username="kesha", password=PASSWORD))
    services.sync()
    assert services.rows(ENTRIES) == [{"kind": "machine", "is_void": 0}]
    services.people.act("boss", SetRole(username="kesha", role="manager"))
    services.sync()
    assert services.rows(ENTRIES) == [{"kind": "machine", "is_void": 1}]
    services.advance(seconds=3600)
    assert remaining(services) == (2, 1)
    services.advance(seconds=60)
    assert remaining(services) == (1, 1)
    services.advance(seconds=3600)
    assert remaining(services) == (0, 0)


def test_revocation_of_an_unknown_token_is_kept_for_a_year(services: TokenServices) -> None:
    """The event that issued it is not in the log, so it may have the longest lifetime."""
    publish_at_identity(services, TokenRevoked(token_id="t", user_id="u", reason="revoked"))
    services.sync()
    (row,) = services.rows("SELECT token_id, expires_at FROM identity_revoked_tokens")
    assert row == {"token_id": "t", "expires_at": "2027-03-03T09:00:00.000000Z"}


def remaining(services: TokenServices) -> tuple[int, int]:
    """Consume an event of another user; return the number of revoked tokens and of entries of owners of the first."""
    publish_at_identity(services, KeyPublished(kid=KID, public_key=PUBLIC_KEY))
    services.sync()
    (row,) = services.rows("SELECT count(*) AS n FROM identity_revoked_tokens")
    return int(row["n"]), len(services.rows(ENTRIES))


KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32).public_key()
KID, PUBLIC_KEY = thumbprint(KEY), urlsafe_b64encode(KEY.public_bytes_raw()).rstrip(b"=").decode()


def test_nothing_is_forgotten_while_an_event_is_set_aside(services: TokenServices) -> None:
    """A token whose event is set aside is void after a change all the same, however long it lives."""
    issued = machine(services, "kesha", 86_400 * 300)
    services.send()
    services.take()
    services.execute(
        "INSERT INTO bus_set_aside (consumer, sequence, subject, state, attempts, due_at, error, since)"
        " SELECT 'tokens', sequence, subject, 'dead', 1, NULL, 'x', time FROM bus_log"
        " WHERE type = 'popug.identity.token_issued.v1'"
    )
    services.consume()
    services.people.act("boss", SetRole(username="kesha", role="manager"))
    services.sync()
    services.execute("DELETE FROM identity_revoked_tokens")
    services.advance(days=200)
    assert remaining(services)[1] == 2
    assert services.refusal(issued) == "token_revoked"

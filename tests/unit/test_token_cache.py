"""A cached token is accepted only while its key and its expiry are unchanged."""

from datetime import timedelta
from pathlib import Path

import pytest

from popug_cli.identity import tokens
from popug_cli.identity.token_cache import MAX_TOKENS, VerifiedTokenCache
from popug_cli.kernel.errors import NotAuthenticated
from popug_cli.messages.identity import IssueToken
from tests.support.company import InProcess


@pytest.fixture
def company(tmp_path: Path) -> InProcess:
    return InProcess(tmp_path / "home")


def issued(company: InProcess) -> str:
    return company.act("boss", IssueToken(username="boss", ttl_seconds=3600)).token


def test_token_is_proved_once(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    token, proofs = issued(company), VerifiedTokenCache()
    found = [proofs.authenticate(token, company.backend.runtime)]
    monkeypatch.setattr(tokens, "verify", None)
    found += [proofs.authenticate(token, company.backend.runtime) for _ in range(2)]
    assert [each.username for each in found] == ["boss"] * 3


def test_token_that_has_expired_since_is_refused(company: InProcess) -> None:
    token, proofs = issued(company), VerifiedTokenCache()
    proofs.authenticate(token, company.backend.runtime)
    company.clock.instant += timedelta(hours=1)
    with pytest.raises(NotAuthenticated) as refused:
        proofs.authenticate(token, company.backend.runtime)
    assert refused.value.code == "token_expired"


@pytest.mark.parametrize("harm", ["gone", "open to others", "another key"])
def test_key_that_has_changed_since_is_looked_at_again(company: InProcess, harm: str) -> None:
    token, proofs = issued(company), VerifiedTokenCache()
    proofs.authenticate(token, company.backend.runtime)
    (key,) = company.backend.home.keys.glob("*.pem")
    if harm == "gone":
        key.unlink()
    elif harm == "open to others":
        key.chmod(0o644)
    else:
        key.write_bytes(key.read_bytes()[:-40])
    with pytest.raises(NotAuthenticated):
        proofs.authenticate(token, company.backend.runtime)


@pytest.mark.parametrize("token", ["", "a.b.c", "x" * 5000, "eyJhbGciOiJFZERTQSIsImtpZCI6NX0.e30.AA"])
def test_invalid_token_is_refused_each_time(company: InProcess, token: str) -> None:
    proofs = VerifiedTokenCache()
    for _ in range(2):
        with pytest.raises(NotAuthenticated) as refused:
            proofs.authenticate(token, company.backend.runtime)
        assert refused.value.code == "token_invalid"


def test_store_is_bounded(company: InProcess) -> None:
    proofs, token = VerifiedTokenCache(), issued(company)
    proofs.authenticate(token, company.backend.runtime)
    proof = proofs._verified[token]
    proofs._verified.update({f"{n}": proof for n in range(MAX_TOKENS - 1)})
    proofs.authenticate(issued(company), company.backend.runtime)
    assert len(proofs._verified) == 1

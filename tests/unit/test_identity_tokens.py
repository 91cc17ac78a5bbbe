"""Tokens forged in every way: each is refused with one sentence."""

import hmac
import json
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from popug_cli.identity import tokens
from popug_cli.identity.keys import SigningKey, thumbprint
from popug_cli.kernel.errors import NotAuthenticated
from popug_cli.messages.base import Role
from tests.support.error_checks import assert_helpful

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ISSUED = int(NOW.timestamp()) - 60
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
KID = thumbprint(KEY.public_key())
NOT_A_CLAIM: tuple[Any, ...] = (None, True, [], {}, 1.5)
CLAIMS: dict[str, Any] = {
    "iss": "popug:here", "aud": "popug", "iat": ISSUED, "exp": ISSUED + 3600, "sub": "user-1", "jti": "token-1",
    "username": "kesha", "role": "worker",
}  # fmt: skip


def find_key(kid: str) -> Ed25519PublicKey | None:
    assert isinstance(kid, str)
    return KEY.public_key() if kid == KID else None


def prove(token: str) -> tokens.Claims:
    return tokens.verify(token, find_key, "popug:here", NOW)


def refusal(token: str) -> str:
    with pytest.raises(NotAuthenticated) as error:
        prove(token)
    assert_helpful(error.value)
    assert error.value.message.count(".") == 1
    assert len(error.value.message) < 120
    return error.value.code


def encoded(part: Any) -> str:
    return urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def signed(claims: Any, header: dict[str, Any] | None = None, key: Ed25519PrivateKey = KEY) -> str:
    """Sign a token by hand, with any content."""
    head = {"alg": "EdDSA", "typ": "JWT", "kid": KID} if header is None else header
    body = f"{encoded(head)}.{encoded(claims)}"
    return f"{body}.{urlsafe_b64encode(key.sign(body.encode())).rstrip(b'=').decode()}"


def changed(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (CLAIMS | changes).items() if value is not ...}


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("x" * 4097, "it is too long"),
        ("x" * 4096, "it is not a JSON Web Token"),
        (signed(CLAIMS, {"alg": "none", "typ": "JWT", "kid": KID}), "it is not a JWT signed with EdDSA"),
        (signed(CLAIMS, {"alg": "EdDSA", "typ": "JWT"}), "its signing key does not belong to the company"),
        (signed(CLAIMS, key=OTHER_KEY), "its signature is wrong"),
        *((signed(changed(**{name: ...})), "a claim is missing or of the wrong type") for name in CLAIMS),
        *((signed(changed(**{name: 7.5})), "a claim is missing or of the wrong type") for name in CLAIMS),
        (signed(changed(iss="popug:elsewhere")), "it was issued for another company"),
        (signed(changed(aud="other")), "it was issued for another company"),
        (signed(changed(exp=ISSUED)), "its lifetime is not allowed"),
    ],
)  # fmt: skip
def test_refusal_gives_the_reason(token: str, why: str) -> None:
    with pytest.raises(NotAuthenticated, match=rf"^The token is not valid: {why}\.$"):
        prove(token)


def test_signed_claims_are_returned() -> None:
    claims = tokens.Claims(**(CLAIMS | {"role": Role.WORKER, "scope": "close-day"}))
    token = tokens.sign(claims, SigningKey(KID, KEY))
    assert prove(token) == claims
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "kid": KID, "typ": "JWT"}


def test_hand_made_token_with_valid_parts_is_accepted() -> None:
    assert prove(signed(CLAIMS)).username == "kesha"
    assert prove(signed(CLAIMS)).scope is None


def test_unknown_claim_is_ignored() -> None:
    assert prove(signed(changed(nbf="whatever", more=[1]))).sub == "user-1"


@pytest.mark.parametrize("claim", list(CLAIMS))
def test_every_claim_is_required(claim: str) -> None:
    assert refusal(signed(changed(**{claim: ...}))) == "token_invalid"


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        *((claim, value) for claim in CLAIMS for value in NOT_A_CLAIM),
        *((claim, str(CLAIMS[claim])) for claim in ("iat", "exp")),
        *((claim, 7) for claim in ("iss", "aud", "sub", "jti", "username", "role")),
        *((claim, "") for claim in ("sub", "jti", "username", "role", "iss", "aud")),
        *((claim, "x" * 65) for claim in ("sub", "jti", "username")),
        ("role", ["admin"]), ("role", "king"), ("role", "Admin"), ("aud", ["popug"]), ("aud", "other"),
        ("iss", "popug:elsewhere"), ("iss", ["popug:here"]), ("scope", ["close-day"]), ("scope", 1),
        ("exp", float(ISSUED + 3600)), ("exp", 10**30), ("iat", -(10**30)),
    ],
)  # fmt: skip
def test_every_claim_is_of_its_type_and_value(claim: str, value: Any) -> None:
    assert refusal(signed(changed(**{claim: value}))) == "token_invalid"


@pytest.mark.parametrize("payload", [[], "text", 7, None, {}])
def test_payload_that_is_not_an_object_is_refused(payload: Any) -> None:
    assert refusal(signed(payload)) == "token_invalid"


@pytest.mark.parametrize("lifetime", [0, -1, 366 * 86400 + 1, 3650 * 86400])
def test_no_token_lives_longer_than_allowed(lifetime: int) -> None:
    assert refusal(signed(changed(exp=ISSUED + lifetime))) == "token_invalid"


def test_token_may_live_for_a_second() -> None:
    assert refusal(signed(changed(exp=ISSUED + 1))) == "token_expired"


def test_token_of_366_days_is_accepted() -> None:
    assert prove(signed(changed(exp=ISSUED + 366 * 86400))).exp == ISSUED + 366 * 86400


def test_token_ends_at_the_second_it_names() -> None:
    now = int(NOW.timestamp())
    assert refusal(signed(changed(exp=now))) == "token_expired"
    assert refusal(signed(changed(exp=now - 30))) == "token_expired"
    assert prove(signed(changed(exp=now + 1))).exp == now + 1


def test_machine_clock_is_not_used() -> None:
    now = datetime(2100, 1, 1, tzinfo=UTC)
    issued = int(now.timestamp())
    token = signed(changed(iat=issued, exp=issued + 60))
    assert tokens.verify(token, find_key, "popug:here", now).exp == issued + 60


def test_token_is_accepted_after_clock_set_back() -> None:
    later = int(NOW.timestamp()) + 86400
    assert prove(signed(changed(iat=later, exp=later + 3600))).iat == later


@pytest.mark.parametrize(
    "header",
    [
        {}, {"alg": "EdDSA", "typ": "JWT"}, {"alg": "EdDSA", "kid": KID}, {"typ": "JWT", "kid": KID},
        {"alg": "none", "typ": "JWT", "kid": KID}, {"alg": "HS256", "typ": "JWT", "kid": KID},
        {"alg": "Ed25519", "typ": "JWT", "kid": KID}, {"alg": ["EdDSA"], "typ": "JWT", "kid": KID},
        {"alg": "EdDSA", "typ": "at+jwt", "kid": KID}, {"alg": "EdDSA", "typ": "JWT", "kid": "x" * 43},
        {"alg": "EdDSA", "typ": "JWT", "kid": 7}, {"alg": "EdDSA", "typ": "JWT", "kid": [KID]},
        {"alg": "EdDSA", "typ": "JWT", "kid": "../../etc/passwd"},
        {"alg": "EdDSA", "typ": "JWT", "kid": KID, "crit": ["exp"]},
        {"alg": "EdDSA", "typ": "JWT", "kid": KID, "b64": False},
    ],
)  # fmt: skip
def test_every_part_of_the_header_is_required(header: dict[str, Any]) -> None:
    assert refusal(signed(CLAIMS, header)) == "token_invalid"


def test_token_signed_with_a_foreign_key_is_refused() -> None:
    assert refusal(signed(CLAIMS, key=OTHER_KEY)) == "token_invalid"
    foreign = {"alg": "EdDSA", "typ": "JWT", "kid": thumbprint(OTHER_KEY.public_key())}
    assert refusal(signed(CLAIMS, foreign, key=OTHER_KEY)) == "token_invalid"
    embedded = {"alg": "EdDSA", "typ": "JWT", "kid": KID, "jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}}
    assert refusal(signed(CLAIMS, embedded, key=OTHER_KEY)) == "token_invalid"


def test_token_without_a_signature_is_refused() -> None:
    body = signed(CLAIMS).rpartition(".")[0]
    assert refusal(f"{body}.") == "token_invalid"
    assert refusal(body) == "token_invalid"
    none = f"{encoded({'alg': 'none', 'typ': 'JWT', 'kid': KID})}.{encoded(CLAIMS)}."
    assert refusal(none) == "token_invalid"


def test_token_signed_with_the_public_key_is_refused() -> None:
    public = KEY.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, public.public_bytes_raw()):
        for alg in ("HS256", "EdDSA"):
            body = f"{encoded({'alg': alg, 'typ': 'JWT', 'kid': KID})}.{encoded(CLAIMS)}"
            mac = hmac.new(secret, body.encode(), sha256).digest()
            assert refusal(f"{body}.{urlsafe_b64encode(mac).rstrip(b'=').decode()}") == "token_invalid"


def test_another_algorithm_is_refused() -> None:
    token = jwt.encode(CLAIMS, generate_ec_key(SECP256R1()), algorithm="ES256", headers={"kid": KID})
    assert refusal(token) == "token_invalid"


def test_token_of_a_megabyte_is_refused_unread() -> None:
    assert refusal(signed(changed(more="x" * 1_000_000))) == "token_invalid"
    assert refusal(signed(changed(more="x" * 4096))) == "token_invalid"


def test_token_may_have_4096_characters() -> None:
    tokens_by_length = {len(token): token for token in (signed(changed(more="x" * n)) for n in range(2600, 2900))}
    assert prove(tokens_by_length[4096]).sub == "user-1"
    assert tokens.kid_of(tokens_by_length[4096]) == KID
    assert refusal(tokens_by_length[4098]) == "token_invalid"


@pytest.mark.parametrize("token", ["", "a.b.c", "x" * 5000, signed(CLAIMS, {"kid": 7}), signed(CLAIMS, {})])
def test_token_without_a_key_name_has_no_kid(token: str) -> None:
    assert tokens.kid_of(token) == ""


@pytest.mark.parametrize("depth", [200, 1000])
def test_token_nested_deep_is_refused(depth: int) -> None:
    body = f"{encoded({'alg': 'EdDSA', 'typ': 'JWT', 'kid': KID})}."
    body += urlsafe_b64encode(b"[" * depth + b"]" * depth).rstrip(b"=").decode()
    signature = urlsafe_b64encode(KEY.sign(body.encode())).rstrip(b"=").decode()
    assert refusal(f"{body}.{signature}") == "token_invalid"


@given(st.text(max_size=200))
def test_arbitrary_text_is_not_a_token(text: str) -> None:
    assert refusal(text) == "token_invalid"


@given(st.data())
def test_token_with_a_changed_payload_is_refused(data: st.DataObject) -> None:
    head, payload, signature = signed(CLAIMS).split(".")
    place = data.draw(st.integers(0, len(payload) - 2))
    other = data.draw(st.sampled_from("ABCxyz019-_").filter(lambda c: c != payload[place]))
    assert refusal(f"{head}.{payload[:place]}{other}{payload[place + 1 :]}.{signature}") == "token_invalid"


@given(st.data())
def test_changed_token_is_accepted_only_if_pyjwt_accepts_it(data: st.DataObject) -> None:
    token = signed(CLAIMS)
    place = data.draw(st.integers(0, len(token)))
    inserted = data.draw(st.text("ABCabc019-_=.+/ \n", max_size=2))
    removed = data.draw(st.integers(0, 2))
    changed_token = token[:place] + inserted + token[place + removed :]
    try:
        claims = prove(changed_token)
    except NotAuthenticated:
        return
    options: Any = {f"verify_{claim}": False for claim in ("exp", "iat", "aud")}
    decoded = jwt.decode(changed_token, KEY.public_key(), algorithms=["EdDSA"], options=options)
    assert decoded == CLAIMS
    assert claims.jti == decoded["jti"]


@pytest.mark.parametrize(
    "more", [{"crit": ["exp"], "exp": 1}, {"b64": False, "crit": ["b64"]}, {"jwk": {}}, {"x5u": "https://evil.example"}]
)
def test_header_with_another_field_is_refused(more: dict[str, Any]) -> None:
    assert prove(signed(CLAIMS)).username == "kesha"
    assert refusal(signed(CLAIMS, {"alg": "EdDSA", "typ": "JWT", "kid": KID} | more)) == "token_invalid"


@pytest.mark.parametrize("spell", ["{}=", "{}==", "{}\n", " {}", "{}.", "{}A", "{}é"])
def test_second_spelling_of_a_token_is_refused(spell: str) -> None:
    assert refusal(spell.format(signed(CLAIMS))) == "token_invalid"

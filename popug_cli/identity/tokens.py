"""JSON Web Tokens (RFC 7519) signed with Ed25519 (RFC 8037): sign and verify.

PyJWT signs. This module verifies without PyJWT: each command verifies, and importing PyJWT takes as long as importing
Typer (record 0050). Verification needs public keys only. It checks size, base64url, algorithm and signature, claims and
their types, issuer and audience, lifetime, and expiry (by the program's clock). A test compares it with PyJWT.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from popug_cli.identity.keys import ALGORITHM, SigningKey
from popug_cli.identity.rules import MAX_TOKEN_LIFETIME
from popug_cli.kernel.errors import NotAuthenticated
from popug_cli.kernel.jwt_payload import decode_segment
from popug_cli.messages.base import Count, Id, Role

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_TOKEN_CHARACTERS = 4096
AUDIENCE = "popug"
TYPE = "JWT"


class CommonClaims(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Claims of every token. Times are whole seconds since 1970; `sub` is a user id and `jti` the token's id."""

    iss: str
    aud: str
    iat: int
    exp: int
    sub: Id
    jti: Id
    username: Id


class Claims(CommonClaims, frozen=True, omit_defaults=True, kw_only=True):
    """Claims of the token of a login (a ``session``) or of a machine.

    ``at`` is the position of the token's ``token_issued`` in the log of identity. Tokens that an older popug issued
    have neither ``kind`` nor ``at``.
    """

    role: Role
    scope: str | None = None
    kind: str | None = None
    at: Count | None = None


FindKey = Callable[[str], "Ed25519PublicKey | None"]


def issuer_of(home_id: str) -> str:
    """Return the issuer (``iss``) of a home's tokens."""
    return f"popug:{home_id}"


def sign(claims: msgspec.Struct, key: SigningKey) -> str:
    """Return the signed token with these claims."""
    import jwt

    payload = msgspec.to_builtins(claims)
    return jwt.encode(payload, key.private, algorithm=ALGORITHM, headers={"kid": key.kid, "typ": TYPE})


def verify(token: str, find_key: FindKey, issuer: str, now: datetime) -> Claims:
    """Return the claims of a valid token; raise ``token_invalid``, ``token_expired`` or an error of `find_key`."""
    claims = _parse_claims(signed_payload(token, find_key))
    check_claims(claims, issuer, now)
    return claims


def unverified_claims(token: str) -> Claims:
    """Return the claims of a token whose signature is not checked; raise ``token_invalid`` if it has none."""
    return _parse_claims(_parse(token).payload)


def check_claims(claims: Claims, issuer: str, now: datetime) -> None:
    """Raise ``token_invalid`` for another company or an invalid lifetime, else ``token_expired`` after the expiry."""
    if claims.iss != issuer or claims.aud != AUDIENCE:
        raise invalid("it was issued for another company")
    if not 0 < claims.exp - claims.iat <= MAX_TOKEN_LIFETIME.total_seconds():
        raise invalid("its lifetime is not allowed")
    if now.timestamp() >= claims.exp:
        raise expired()


def signed_payload(token: str, find_key: FindKey) -> bytes:
    """Return the payload of a token that a company key signed; raise ``token_invalid`` or an error of `find_key`."""
    from cryptography.exceptions import InvalidSignature

    parts = _parse(token)
    try:
        _verification_key(parts.header, find_key).verify(parts.signature, parts.signed)
    except InvalidSignature:
        raise invalid("its signature is wrong") from None
    return parts.payload


def kid_of(token: str) -> str:
    """Return the key id in a token's header, unverified; empty if there is none."""
    try:
        kid = _parse(token).header.get("kid")
    except NotAuthenticated:
        return ""
    return kid if isinstance(kid, str) else ""


def expired() -> NotAuthenticated:
    """Return the error for an expired token."""
    return NotAuthenticated("token_expired", "The login has expired.", hint="Run `popug login NAME`.")


def invalid(reason: str) -> NotAuthenticated:
    """Return the error for a token that is not valid; `reason` says why."""
    return NotAuthenticated("token_invalid", f"The token is not valid: {reason}.", hint="Run `popug login NAME`.")


class TokenParts(NamedTuple):
    """The parts of a compact JWS (RFC 7515, section 7.1); the signature covers the bytes of ``signed``."""

    header: dict[str, Any]
    payload: bytes
    signed: bytes
    signature: bytes


def _parse(token: str) -> TokenParts:
    """Split and decode a token; raise ``token_invalid``."""
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise invalid("it is too long")
    segments = token.split(".")
    try:
        header, payload, signature = (decode_segment(segment) for segment in segments)
        return TokenParts(_decode_header(header), payload, ".".join(segments[:2]).encode("ascii"), signature)
    except (ValueError, RecursionError):
        raise invalid("it is not a JSON Web Token") from None


_decode_header = msgspec.json.Decoder(dict[str, Any]).decode  # its errors are ValueErrors


def _verification_key(header: Mapping[str, Any], find_key: FindKey) -> "Ed25519PublicKey":
    """Return the key that a header names; raise ``token_invalid``, also for a header with any other field."""
    if header.get("alg") != ALGORITHM or header.get("typ") != TYPE:
        raise invalid(f"it is not a {TYPE} signed with {ALGORITHM}")
    kid = header.get("kid")
    key = find_key(kid) if isinstance(kid, str) and header.keys() <= {"alg", "typ", "kid"} else None
    if key is None:
        raise invalid("its signing key does not belong to the company")
    return key


def _parse_claims(payload: bytes) -> Claims:
    try:
        return msgspec.json.decode(payload, type=Claims)
    except (ValueError, RecursionError):
        raise invalid("a claim is missing or of the wrong type") from None

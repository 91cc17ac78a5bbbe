"""JSON Web Tokens (RFC 7519) signed with Ed25519 (RFC 8037): sign and verify.

Verification needs public keys only. PyJWT checks the signature. This module checks the rest: size, algorithm, claims
and their types, issuer and audience, lifetime, and expiry (by the program's clock).
"""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from popug_cli.identity.keys import ALGORITHM, SigningKey
from popug_cli.identity.rules import MAX_TOKEN_LIFETIME
from popug_cli.kernel.errors import NotAuthenticated
from popug_cli.messages.base import Id, Role

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_TOKEN_CHARACTERS = 4096
AUDIENCE = "popug"
TYPE = "JWT"


class Claims(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Claims of a token. Times are whole seconds since 1970; `sub` is a user id and `jti` the token's id."""

    iss: str
    aud: str
    iat: int
    exp: int
    sub: Id
    jti: Id
    username: Id
    role: Role
    scope: str | None = None


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
    claims = _parse_claims(decode(token, find_key))
    if claims.iss != issuer or claims.aud != AUDIENCE:
        raise invalid("it was issued for another company")
    if not 0 < claims.exp - claims.iat <= MAX_TOKEN_LIFETIME.total_seconds():
        raise invalid("its lifetime is not allowed")
    if now.timestamp() >= claims.exp:
        raise expired()
    return claims


def decode(token: str, find_key: FindKey) -> Any:
    """Return the payload of a token that a key of the company signed; raise ``token_invalid`` or as `find_key` does."""
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise invalid("it is too long")
    return _verify_signature(token, _verification_key(token, find_key))


def kid_of(token: str) -> str:
    """Return the key id in a token's header, unverified; empty if there is none."""
    import jwt

    if len(token) > MAX_TOKEN_CHARACTERS:
        return ""
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError, RecursionError):
        return ""
    return kid if isinstance(kid, str) else ""


def expired() -> NotAuthenticated:
    """Return the error for an expired token."""
    return NotAuthenticated("token_expired", "The login has expired.", hint="Run `popug login NAME`.")


def invalid(reason: str) -> NotAuthenticated:
    """Return the error for a token that is not valid, for the reason `reason`."""
    return NotAuthenticated("token_invalid", f"The token is not valid: {reason}.", hint="Run `popug login NAME`.")


def _verification_key(token: str, find_key: FindKey) -> "Ed25519PublicKey":
    import jwt

    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise invalid("it is not a JSON Web Token") from None
    if header.get("alg") != ALGORITHM or header.get("typ") != TYPE:
        raise invalid(f"it is not a {TYPE} signed with {ALGORITHM}")
    kid = header.get("kid")
    key = find_key(kid) if isinstance(kid, str) else None
    if key is None:
        raise invalid("its signing key does not belong to the company")
    return key


def _verify_signature(token: str, key: "Ed25519PublicKey") -> Any:
    import jwt

    unchecked = ("exp", "iat", "nbf", "iss", "aud", "sub", "jti")
    options: Any = {"verify_signature": True} | {f"verify_{claim}": False for claim in unchecked}
    try:
        return jwt.decode(token, key, algorithms=[ALGORITHM], options=options)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise invalid("its signature is wrong") from None


def _parse_claims(payload: Any) -> Claims:
    try:
        return msgspec.convert(payload, Claims)
    except msgspec.ValidationError:
        raise invalid("a claim is missing or of the wrong type") from None

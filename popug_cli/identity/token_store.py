"""The stored tokens: issue, find, record use, revoke."""

from datetime import UTC, datetime, timedelta

import msgspec
from msgspec.structs import replace

from popug_cli.bus.context import Context
from popug_cli.identity import keys, published_keys, tokens
from popug_cli.kernel.clock import from_rfc3339, to_rfc3339
from popug_cli.messages.base import Role
from popug_cli.messages.identity import IssuedToken, TokenIssued, TokenLine, TokenRevoked, User

SESSION = "session"
MACHINE = "machine"


class StoredToken(msgspec.Struct, frozen=True):
    """A stored token and its owner."""

    token_id: str
    user_id: str
    username: str
    role: Role
    active: bool
    kind: str
    scope: str | None
    expires_at: datetime
    revoked_at: datetime | None


def issue(context: Context, user: User, kind: str, lifetime: timedelta, scope: str | None = None) -> IssuedToken:
    """Sign and store a token, valid from now, and publish ``token_issued``; `lifetime` is cut to whole seconds.

    First publish the signing key if no event has published it. Raise ``key_invalid`` or ``insecure_file``.
    """
    key = keys.signing_key(context.home)
    if not published_keys.is_published(context, key.kid):
        published_keys.publish(context)
    issued_at_seconds = int(context.now.timestamp())
    unsigned = tokens.Claims(
        iss=tokens.issuer_of(context.home_id),
        aud=tokens.AUDIENCE,
        iat=issued_at_seconds,
        exp=issued_at_seconds + int(lifetime.total_seconds()),
        sub=user.user_id,
        jti=context.events.new_id(),
        username=user.username,
        role=user.role,
        scope=scope,
        kind=kind,
    )
    expires_at = datetime.fromtimestamp(unsigned.exp, UTC)
    claims = replace(unsigned, at=_insert(context, unsigned, kind, expires_at))
    return IssuedToken(token_id=claims.jti, token=tokens.sign(claims, key), expires_at=expires_at, scope=scope)


def find(context: Context, token_id: str) -> StoredToken | None:
    """Return a stored token, or None if there is none with this id."""
    statement = (
        "SELECT token_id, user_id, username, role, active, kind, scope, expires_at, revoked_at"
        " FROM identity_tokens JOIN identity_users USING (user_id) WHERE token_id = :token_id"
    )
    row = context.connection.record(statement, token_id=token_id)
    return None if row is None else msgspec.convert(row, StoredToken, strict=False)


def valid_machine_tokens(context: Context, user: User) -> list[TokenLine]:
    """Return the machine tokens of a user that are neither expired nor revoked, latest first."""
    rows = context.connection.records(
        "SELECT token_id, username, kind, scope, issued_at, expires_at, revoked_at, last_used_at"
        " FROM identity_tokens JOIN identity_users USING (user_id)"
        " WHERE user_id = :user_id AND kind = 'machine' AND revoked_at IS NULL AND expires_at > :now"
        " ORDER BY issued_at DESC, token_id DESC",
        user_id=user.user_id,
        now=to_rfc3339(context.now),
    )
    return [msgspec.convert(row, TokenLine) for row in rows]


def record_use(context: Context, token: StoredToken) -> None:
    """Record that a machine token is used now, if the transaction may write."""
    if token.kind == MACHINE and context.connection.writes:
        context.connection.execute(
            "UPDATE identity_tokens SET last_used_at = :now WHERE token_id = :token_id",
            now=to_rfc3339(context.now),
            token_id=token.token_id,
        )


def revoke(context: Context, token_id: str, reason: str) -> None:
    """Revoke one token, unless it is revoked already."""
    _revoke(context, "token_id = :token_id", {"token_id": token_id}, reason)


def revoke_user_tokens(context: Context, user: User, reason: str) -> None:
    """Revoke all tokens of a user."""
    _revoke(context, "user_id = :user_id", {"user_id": user.user_id}, reason)


def revoke_user_sessions(context: Context, user: User, reason: str) -> None:
    """Revoke the sessions of a user, but not the machine tokens."""
    _revoke(context, "user_id = :user_id AND kind = 'session'", {"user_id": user.user_id}, reason)


def revoke_all_tokens(context: Context, reason: str) -> None:
    """Revoke all tokens of the company."""
    _revoke(context, "TRUE", {}, reason)


def _revoke(context: Context, condition: str, parameters: dict[str, str], reason: str) -> None:
    """Revoke the matching tokens; publish an event for each that had not expired."""
    rows = context.connection.select(
        f"UPDATE identity_tokens SET revoked_at = :now WHERE revoked_at IS NULL AND {condition}"
        " RETURNING token_id, user_id, expires_at",
        **{"now": to_rfc3339(context.now)} | parameters,
    )
    for token_id, user_id, expires_at in sorted(rows):
        if from_rfc3339(expires_at) > context.now:
            context.events.publish(TokenRevoked(token_id=token_id, user_id=user_id, reason=reason))


def _insert(context: Context, claims: tokens.Claims, kind: str, expires_at: datetime) -> int:
    """Store a token and publish its event; return the position of the event."""
    context.connection.insert_many(
        "INSERT INTO identity_tokens (token_id, user_id, kind, scope, issued_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
        [(claims.jti, claims.sub, kind, claims.scope, to_rfc3339(context.now), to_rfc3339(expires_at))],
    )
    context.events.publish(
        TokenIssued(token_id=claims.jti, user_id=claims.sub, kind=kind, expires_at=expires_at, scope=claims.scope)
    )
    return context.events.last_position

"""Check users, their passwords and their tokens against the events of identity.

A link of the hash chain covers each event that identity published. The checks ignore events without a link, because
another program may have inserted them.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from popug_cli.audit.reading import normalize_time
from popug_cli.audit.result import MAX_SHOWN_VIOLATIONS, check_result
from popug_cli.bus.context import Context
from popug_cli.bus.log import ENVELOPE, IS_RARE
from popug_cli.bus.unlinked_events import unlinked_positions
from popug_cli.identity.rules import email_key, password_digest
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.text import counted
from popug_cli.messages.base import Event
from popug_cli.messages.company import Check
from popug_cli.messages.envelope import EventFields
from popug_cli.messages.identity import (
    PasswordChanged,
    PasswordRehashed,
    TokenIssued,
    TokenRevoked,
    UserDeactivated,
    UserEmailChanged,
    UserReactivated,
    UserRegistered,
    UserRoleChanged,
)

SELECT_USERS = (
    "SELECT user_id, username, email, email_key, role, active, registered_at, password_hash FROM identity_users"
)
SELECT_TOKENS = "SELECT token_id, user_id, kind, scope, issued_at, expires_at, revoked_at FROM identity_tokens"


class PublishedUser(msgspec.Struct):
    """A user as the events describe it; ``password_digest`` is None if an older popug set the password."""

    username: str
    email: str
    role: str
    registered_at: str
    active: int
    password_digest: str | None


class PublishedToken(msgspec.Struct):
    """A token as the events describe it; times are normalized texts."""

    user_id: str
    kind: str
    scope: str | None
    issued_at: str
    expires_at: str
    revoked_at: str | None = None


def users_match_events(context: Context) -> Check:
    """Check that the users are those of the events, with their addresses, roles, activity and passwords."""
    published, unmatched = _published_users(context), 0
    violations, stored_ids = [], set()
    for user_id, username, *values, password_hash in context.connection.stream(SELECT_USERS):
        stored_ids.add(user_id)
        user = published.get(user_id)
        if user is None:
            violations.append(f"{username} (no event registers this user)")
            continue
        unmatched += user.password_digest is None and password_hash is not None
        if differing := _differing_fields(user, username, values, password_hash):
            violations.append(f"{username} ({', '.join(differing)})")
    violations += [
        f"{user.username} (registered but not stored)"
        for user_id, user in published.items()
        if user_id not in stored_ids
    ]
    statement = "every user has the address, role, activity and password of the events, and there is no other user"
    result = check_result("users_match_events", statement, violations)
    if not result.ok or not unmatched:
        return result
    passwords = counted(unmatched, "password was", "passwords were")
    return msgspec.structs.replace(
        result, detail=f"{statement}; {passwords} set by an older popug, which recorded nothing to compare with"
    )


def tokens_match_events(context: Context) -> Check:
    """Check that the tokens are those of the events, with their owners, scopes, times and revocations."""
    published = _published_tokens(context)
    statement = "every token was issued by an event, and is revoked if an event says so, else only after its expiry"
    return check_result(
        "tokens_match_events", statement, list(islice(_wrong_tokens(context, published), MAX_SHOWN_VIOLATIONS + 1))
    )


def _differing_fields(user: PublishedUser, username: str, values: list[Any], password_hash: str | None) -> list[str]:
    email, key, role, active, registered_at = values
    stored = (username, email, role, active, registered_at)
    expected = (user.username, user.email, user.role, user.active, user.registered_at)
    names = ("username", "email", "role", "active", "registered_at")
    differing = [name for name, value, published in zip(names, stored, expected, strict=True) if value != published]
    if key != email_key(str(email)):
        differing.append("email_key")
    if user.password_digest is not None and user.password_digest != password_digest(password_hash):
        differing.append("password")
    return differing


def _published_users(context: Context) -> dict[str, PublishedUser]:
    users: dict[str, PublishedUser] = {}
    kinds = (
        UserRegistered,
        UserEmailChanged,
        UserRoleChanged,
        UserDeactivated,
        UserReactivated,
        PasswordChanged,
        PasswordRehashed,
    )
    for event in _own_events(context, kinds):
        data = event.data
        if isinstance(data, UserRegistered):
            users.setdefault(
                data.user_id,
                PublishedUser(
                    data.username, data.email, data.role.value, normalize_time(event.time), 1, event.passworddigest
                ),
            )
        elif (user := users.get(data.user_id)) is not None:  # type: ignore[attr-defined]
            _apply(user, event)
    return users


def _apply(user: PublishedUser, event: EventFields[Event]) -> None:
    data = event.data
    if isinstance(data, UserEmailChanged):
        user.email = data.email
    elif isinstance(data, UserRoleChanged):
        user.role = data.new_role.value
    elif isinstance(data, UserDeactivated | UserReactivated):
        user.active = int(isinstance(data, UserReactivated))
    else:
        user.password_digest = event.passworddigest


def _published_tokens(context: Context) -> dict[str, PublishedToken]:
    tokens: dict[str, PublishedToken] = {}
    for event in _own_events(context, (TokenIssued, TokenRevoked)):
        data = event.data
        time = normalize_time(event.time)
        if isinstance(data, TokenIssued):
            expires_at = to_rfc3339(data.expires_at)
            tokens[data.token_id] = PublishedToken(data.user_id, data.kind, data.scope, time, expires_at)
        elif isinstance(data, TokenRevoked) and data.token_id in tokens:
            tokens[data.token_id].revoked_at = time
    return tokens


def _wrong_tokens(context: Context, published: dict[str, PublishedToken]) -> Iterator[str]:
    stored_ids = set()
    for token_id, *values, revoked_at in context.connection.stream(SELECT_TOKENS):
        stored_ids.add(token_id)
        token = published.get(token_id)
        if token is None:
            yield f"token {token_id} (no event issues it)"
        elif values != [token.user_id, token.kind, token.scope, token.issued_at, token.expires_at]:
            yield f"token {token_id} (owner, kind, scope or times)"
        elif revoked_at != token.revoked_at and (token.revoked_at or revoked_at < token.expires_at):
            yield f"token {token_id} (revocation)"
    yield from (f"token {token_id} (issued but not stored)" for token_id in published.keys() - stored_ids)


def _own_events(context: Context, kinds: tuple[type[Event], ...]) -> Iterator[EventFields[Event]]:
    """Yield the linked events of some kinds, in log order; skip an event that does not fit its schema."""
    unlinked = set(unlinked_positions(context))
    decoders = {kind.TYPE: msgspec.json.Decoder(EventFields[kind]).decode for kind in kinds}  # type: ignore[valid-type]
    statement = (
        f"SELECT sequence, type, {ENVELOPE} FROM bus_log WHERE type IN ({','.join('?' * len(decoders))})"
        f" AND {IS_RARE} ORDER BY +sequence"
    )
    for sequence, type_, envelope in context.connection.stream(statement, *decoders):
        if sequence not in unlinked:
            try:
                yield decoders[type_](envelope)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue

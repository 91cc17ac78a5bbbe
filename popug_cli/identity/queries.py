"""Queries about users, tokens and keys."""

import msgspec

from popug_cli.bus.context import Context
from popug_cli.identity import published_keys, users
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.messages.base import page_bounds
from popug_cli.messages.identity import (
    KeySet,
    ListTokens,
    ListUsers,
    ShowKeys,
    ShowUser,
    TokenLine,
    Tokens,
    User,
    Users,
    WhoAmI,
)
from popug_cli.messages.internal.identity import GetLogHead, LogHead


def who_am_i(message: WhoAmI, context: Context) -> User:
    """Return the caller."""
    return users.get(context, context.principal.username)


def get_log_head(message: GetLogHead, context: Context) -> LogHead:
    """Return the position of the last event of the log."""
    return LogHead(context.log.last_position())


def list_users(message: ListUsers, context: Context) -> Users:
    """Return the users by username, at most ``MAX_ANSWER_ROWS``."""
    return Users(users.by_username(context, **page_bounds(message.limit, message.offset)))


def show_user(message: ShowUser, context: Context) -> User:
    """Return one user; raise ``user_not_found``."""
    return users.get(context, message.username)


def list_tokens(message: ListTokens, context: Context) -> Tokens:
    """Return the tokens that have not expired (revoked ones included), latest first, at most ``MAX_ANSWER_ROWS``."""
    rows = context.connection.records(
        "SELECT token_id, username, kind, scope, issued_at, expires_at, revoked_at, last_used_at"
        " FROM identity_tokens JOIN identity_users USING (user_id)"
        " WHERE expires_at > :now ORDER BY issued_at DESC, token_id DESC LIMIT :limit OFFSET :offset",
        now=to_rfc3339(context.now),
        **page_bounds(message.limit, message.offset),
    )
    return Tokens([msgspec.convert(row, TokenLine) for row in rows])


def show_keys(message: ShowKeys, context: Context) -> KeySet:
    """Return the public keys as a JWK set; raise ``key_invalid`` or ``insecure_file``."""
    return KeySet(published_keys.key_set(context))

"""A service's copies of what identity says about tokens: public keys, and a deny list.

The deny list has revoked tokens and, for each user, the position of the last event that voids older tokens. Positions
decide and not times, because clocks differ and ``iat`` has whole seconds. Events may be applied again, and in any
order. An entry is deleted when every token that it concerns has expired.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from popug_cli.bus import parked_events, stream_store
from popug_cli.bus.context import Context
from popug_cli.bus.retry import PermanentFailure
from popug_cli.identity import keys, published_keys
from popug_cli.identity.rules import MAX_TOKEN_LIFETIME
from popug_cli.kernel.clock import from_rfc3339, to_rfc3339
from popug_cli.messages.base import Event
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.identity import (
    KeyPublished,
    PasswordChanged,
    TokenIssued,
    TokenRevoked,
    UserDeactivated,
    UserRoleChanged,
)

IDENTITY = "identity"
CONSUMER_NAME = "tokens"
COPIED_TABLES = ("identity_keys", "identity_token_owners", "identity_revoked_tokens", "identity_watermark")
"""The tables of identity that every service has."""
KINDS = ("session", "machine")
CLOCK_TOLERANCE = timedelta(minutes=1)  # the processes of a service have clocks of their own

UPSERT_OWNER = """
    INSERT INTO identity_token_owners AS owner (user_id, kind, void_below, expires_at) VALUES (?, ?, ?, ?)
    ON CONFLICT (user_id, kind) DO UPDATE SET
        void_below = CASE WHEN excluded.void_below > owner.void_below THEN excluded.void_below
            ELSE owner.void_below END,
        expires_at = CASE WHEN excluded.expires_at > owner.expires_at THEN excluded.expires_at
            ELSE owner.expires_at END
"""
UPDATE_VOID_BELOW = "UPDATE identity_token_owners SET void_below = ? WHERE user_id = ? AND kind = ? AND void_below < ?"
INSERT_REVOKED = (
    "INSERT INTO identity_revoked_tokens (token_id, expires_at) VALUES (?, ?) ON CONFLICT (token_id) DO NOTHING"
)
SELECT_DENIAL = """
    SELECT EXISTS (SELECT 1 FROM identity_revoked_tokens WHERE token_id = :token_id),
        (SELECT void_below FROM identity_token_owners WHERE user_id = :user_id AND kind = :kind)
"""
UPSERT_WATERMARK = """
    INSERT INTO identity_watermark (id, position, stamped_at) VALUES (1, ?, ?)
    ON CONFLICT (id) DO UPDATE SET position = excluded.position, stamped_at = excluded.stamped_at
"""

Received = tuple[int, Delivered[Event]]
"""An event of identity, with its position in the log of identity."""
Owner = tuple[str, str]
"""The id of a user and a kind of token."""


class VoidEvent(NamedTuple):
    """The position of the last event that voids older tokens, and the latest possible expiry of such a token.

    ``known_expiry`` is the latest expiry of the tokens that came before the event, None if there was none.
    """

    position: int
    latest_expiry: datetime
    known_expiry: datetime | None


class TokenNews(NamedTuple):
    """The content of events: keys by id, the latest expiry and void event by owner, times of revocation by token."""

    keys: dict[str, str]
    expiries: dict[Owner, datetime]
    void: dict[Owner, VoidEvent]
    revoked_at: dict[str, datetime]


class ConsumedWatermark(NamedTuple):
    """A watermark of identity that the consumer of tokens has consumed; ``stamped_at`` is the broker's time of it."""

    position: int
    stamped_at: datetime


def received_events(events: Iterable[Delivered[Event]], context: Context) -> list[Received]:
    """Return the events that identity published, with their positions there; another service cannot void tokens."""
    events = list(events)
    positions = stream_store.origin_positions(context.connection, IDENTITY, [event.sequence for event in events])
    return [(positions[event.sequence], event) for event in events if event.sequence in positions]


def news_of(received: Iterable[Received]) -> TokenNews:
    """Return what events of identity say about tokens; raise ``PermanentFailure`` for a key that is not that of its id.

    A new password voids the user's sessions. A new role, and a deactivation, void all tokens.
    """
    news = TokenNews({}, {}, {}, {})
    for position, event in received:
        match event.data:
            case KeyPublished(kid=kid, public_key=public_key):
                if keys.load_public_key(kid, public_key) is None:
                    raise PermanentFailure(f"the key {kid} is not the key of that id")
                news.keys[kid] = public_key
            case TokenIssued(user_id=user_id, kind=kind, expires_at=expires_at):
                owner = user_id, kind
                news.expiries[owner] = max(news.expiries.get(owner, expires_at), expires_at)
            case TokenRevoked(token_id=token_id):
                news.revoked_at[token_id] = event.time
            case PasswordChanged(user_id=user_id):
                _void(news, position, event, [(user_id, "session")])
            case UserRoleChanged(user_id=user_id) | UserDeactivated(user_id=user_id):
                _void(news, position, event, [(user_id, kind) for kind in KINDS])
            case _:
                pass
    return news


def apply(news: TokenNews, context: Context) -> None:
    """Add the news to the copies, and delete the entries of expired tokens."""
    has_all = not parked_events.set_aside_states(context, CONSUMER_NAME)
    expired_by = context.now - CLOCK_TOLERANCE
    published_keys.store(context, list(news.keys.items()))
    owners = [(*owner, 0, to_rfc3339(expiry)) for owner, expiry in news.expiries.items() if expiry > expired_by]
    context.connection.execute_many(UPSERT_OWNER, owners)
    void = news.void.items()
    if has_all:  # a user without a row has expired tokens at most
        voided = [(event.position, *owner, event.position) for owner, event in void]
        context.connection.execute_many(UPDATE_VOID_BELOW, voided)
    else:  # the event that issued a token may be among those set aside
        bounds = [(*owner, event.position, to_rfc3339(event.latest_expiry)) for owner, event in void]
        context.connection.execute_many(UPSERT_OWNER, bounds)
    expiries = [(token_id, expiry_of(token_id, time, context)) for token_id, time in news.revoked_at.items()]
    revoked = [(token_id, to_rfc3339(expiry)) for token_id, expiry in expiries if expiry > expired_by]
    context.connection.execute_many(INSERT_REVOKED, revoked)
    for table in ("identity_token_owners", "identity_revoked_tokens"):
        context.connection.execute(f"DELETE FROM {table} WHERE expires_at <= ?", to_rfc3339(expired_by))


def is_void(context: Context, token_id: str, user_id: str, kind: str, position: int) -> bool:
    """Return whether a token, issued at a position of identity's log, was revoked or is void."""
    row = context.connection.select_one(SELECT_DENIAL, token_id=token_id, user_id=user_id, kind=kind)
    assert row is not None
    is_revoked, void_below = row
    return bool(is_revoked) or position < (void_below or 0)


def reset(context: Context) -> None:
    """Empty the copies; the consumer fills them when it begins at the start of the log."""
    for table in COPIED_TABLES:
        context.connection.execute(f"DELETE FROM {table}")


def store_watermark(context: Context, watermark: ConsumedWatermark) -> None:
    """Store the highest watermark of identity that is consumed."""
    context.connection.execute(UPSERT_WATERMARK, watermark.position, to_rfc3339(watermark.stamped_at))


def forget_watermark(context: Context) -> None:
    """Let the service wait for news of identity before it serves all roles."""
    context.connection.execute("DELETE FROM identity_watermark")


def consumed_watermark(context: Context) -> ConsumedWatermark | None:
    """Return the highest watermark of identity that is consumed, or None before the first."""
    row = context.connection.select_one("SELECT position, stamped_at FROM identity_watermark")
    return None if row is None else ConsumedWatermark(row[0], from_rfc3339(row[1]))


def _void(news: TokenNews, position: int, event: Delivered[Event], owners: list[Owner]) -> None:
    for owner in owners:
        known = news.void.get(owner, VoidEvent(0, event.time, None))
        latest_expiry = max(known.latest_expiry, event.time + MAX_TOKEN_LIFETIME)
        news.void[owner] = VoidEvent(max(known.position, position), latest_expiry, news.expiries.get(owner))


def expiry_of(token_id: str, revoked_at: datetime, context: Context) -> datetime:
    """Return when a revoked token expires: as the event that issued it says, or the latest possible instant."""
    issued = context.log.by_subject(token_id, TokenIssued)
    expiries = [event.data.expires_at for event in issued if isinstance(event.data, TokenIssued)]
    return max(expiries, default=revoked_at + MAX_TOKEN_LIFETIME)

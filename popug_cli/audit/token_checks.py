"""Check the public keys against the events that publish them and, in a service, its copies of keys and deny list."""

from collections.abc import Iterator
from itertools import islice

from popug_cli.audit.result import MAX_SHOWN_VIOLATIONS, check_result
from popug_cli.bus.context import Context
from popug_cli.bus.cursors import cursor_position
from popug_cli.identity import keys, token_copies
from popug_cli.identity.consumers import CONSUMER
from popug_cli.identity.published_keys import VOID, is_void
from popug_cli.identity.service_authorization import missing_news
from popug_cli.identity.token_copies import Received, TokenNews
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.messages.company import Check
from popug_cli.messages.identity import KeyPublished

CHUNK_EVENTS = 1_000
SELECT_KEYS = "SELECT kid, public_key FROM identity_keys ORDER BY kid"
SELECT_OWNERS = "SELECT user_id, kind, void_below, expires_at FROM identity_token_owners"
SELECT_REVOKED = "SELECT token_id FROM identity_revoked_tokens ORDER BY token_id"
SELECT_SET_ASIDE = "SELECT sequence FROM bus_set_aside WHERE consumer = ?"


def keys_match_events(context: Context) -> Check:
    """Check that each public key is that of its id and of its event; an operator may delete that of a stolen key."""
    stored = _stored_keys(context)
    violations = [f"key {kid} (another key than its id says)" for kid in stored if not _is_key(kid, stored[kid])]
    for event in context.log.by_type(KeyPublished):
        data = event.data
        assert isinstance(data, KeyPublished)
        if stored.get(data.kid, data.public_key) != data.public_key:
            violations.append(f"key {data.kid} (another key than its event says)")
    return check_result("keys_match_events", "every public key is that of its id and of its event", violations)


def token_copies_match_events(context: Context) -> Check:
    """Check that a service's copies of keys and its deny list are those of the events that it has consumed."""
    news = token_copies.news_of(_consumed_events(context))
    violations = [*_wrong_keys(context, news), *_wrong_owners(context, news), *_wrong_revocations(context, news)]
    return check_result(
        "token_copies_match_events",
        "the copies of identity's keys and of its void tokens are those of the events",
        list(islice(violations, MAX_SHOWN_VIOLATIONS + 1)),
    )


def news_of_identity(context: Context) -> Check:
    """Report whether a service has what identity published up to a minute ago, so that it may serve all roles."""
    reason = missing_news(context)
    if reason is None:
        return Check("news_of_identity", True, "identity's events have arrived up to less than a minute ago")
    return Check("news_of_identity", True, f"only what a worker may do is served: {reason}", attention=True)


def _stored_keys(context: Context) -> dict[str, str]:
    """Return the stored keys by id, without those that a restore made void."""
    return {kid: key for kid, key in context.connection.select(SELECT_KEYS) if key != VOID}


def _is_key(kid: str, public_key: str) -> bool:
    return keys.load_public_key(kid, public_key) is not None


def _consumed_events(context: Context) -> Iterator[Received]:
    """Yield the events of identity that the consumer of tokens has applied."""
    cursor, position = cursor_position(context, CONSUMER.name), 0
    set_aside = set(context.connection.column(SELECT_SET_ASIDE, CONSUMER.name))
    while rows := context.log.after(position, CONSUMER.types, CHUNK_EVENTS, prefixes=CONSUMER.prefixes):
        position = rows[-1][0]
        applied = [row for row in rows if row[0] <= cursor and row[0] not in set_aside]
        yield from token_copies.received_events(context.log.decode_known(applied), context)


def _wrong_keys(context: Context, news: TokenNews) -> Iterator[str]:
    stored = _stored_keys(context)
    published = {kid: key for kid, key in news.keys.items() if not is_void(context, kid)}
    for kid in sorted(stored.keys() | published.keys()):
        if stored.get(kid) != published.get(kid):
            yield f"key {kid} ({_difference(kid in stored, kid in published)})"


def _wrong_owners(context: Context, news: TokenNews) -> Iterator[str]:
    """Yield the users with tokens of a kind that are not void as the events say, or whose entry expires too early."""
    stored = {(row[0], row[1]): (row[2], row[3]) for row in context.connection.select(SELECT_OWNERS)}
    for owner in sorted(stored.keys() | news.expiries.keys()):
        expiry, void = news.expiries.get(owner), news.void.get(owner)
        name = f"the {owner[1]} tokens of user {owner[0]}"
        if owner not in stored:
            if expiry is not None and expiry > context.now:
                yield f"{name} (no entry)"
            continue
        void_below, expires_at = stored[owner]
        if void_below > (void.position if void else 0):
            yield f"{name} (void before {void_below}, which no event says)"
        elif void and void_below < void.position and void.known_expiry and void.known_expiry > context.now:
            yield f"{name} (void before {void_below}, by the events before {void.position})"
        elif expiry is not None and expires_at < to_rfc3339(expiry):
            yield f"{name} (the entry goes before they have expired)"


def _wrong_revocations(context: Context, news: TokenNews) -> Iterator[str]:
    stored = set(context.connection.column(SELECT_REVOKED))
    for token_id in sorted(stored - news.revoked_at.keys()):
        yield f"token {token_id} (no event revokes it)"
    for token_id in sorted(news.revoked_at.keys() - stored):
        if token_copies.expiry_of(token_id, news.revoked_at[token_id], context) > context.now:
            yield f"token {token_id} (revoked by an event, but not here)"


def _difference(is_stored: bool, is_published: bool) -> str:
    if is_stored and is_published:
        return "another key than the event's"
    return "no event publishes it" if is_stored else "published, but not stored"

"""The consumer ``tokens``: it keeps the copies with which the other services of a cluster verify tokens.

A company with one database does not run it, and neither does the service identity: they read identity's own tables.
"""

from collections.abc import Sequence

from popug_cli.bus import stream_store
from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Context
from popug_cli.bus.cursors import is_current
from popug_cli.identity import token_copies
from popug_cli.identity.token_copies import CONSUMER_NAME, IDENTITY, ConsumedWatermark
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


def consume(events: Sequence[Delivered[Event]], context: Context) -> None:
    """Apply the events to the copies, and record the watermark if no further event is to be consumed."""
    token_copies.apply(token_copies.news_of(token_copies.received_events(events, context)), context)
    after, end = events[-1].sequence, context.log.last_position()
    if not context.log.contains(CONSUMER.types, prefixes=CONSUMER.prefixes, after=after, up_to=end):
        _store_watermark(context)


def record_watermark(context: Context) -> None:
    """Record the watermark of identity's stream if all events before it are consumed.

    The replicator calls this after it has taken records of identity, in the same transaction.
    """
    end = max(context.position, context.events.last_position)
    if is_current(context.at_position(end), CONSUMER):
        _store_watermark(context)


def _store_watermark(context: Context) -> None:
    state = stream_store.find_state(context.connection, IDENTITY)
    if state is not None and state.stamped_at is not None:
        token_copies.store_watermark(context, ConsumedWatermark(state.watermark, state.stamped_at))


CONSUMER = Consumer(
    CONSUMER_NAME,
    (KeyPublished, TokenIssued, TokenRevoked, PasswordChanged, UserRoleChanged, UserDeactivated),
    consume,
)

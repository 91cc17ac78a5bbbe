"""What mail does about events: it knows everybody's address and queues a mail for each payout."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from popug_cli.bus.consumers import Consumer
from popug_cli.bus.runtime import Context
from popug_cli.kernel.clock import stamp
from popug_cli.mail.rules import message_id_of
from popug_cli.messages.base import Event
from popug_cli.messages.billing import PayoutMade
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.identity import UserEmailChanged, UserRegistered
from popug_cli.storage.engine import insert_many

E = TypeVar("E", bound=Event)

MEET = (
    "INSERT INTO mail_receivers (user_id, username, email) VALUES (?, ?, ?)"
    " ON CONFLICT (user_id) DO UPDATE SET username = excluded.username, email = excluded.email"
)
MOVE = "UPDATE mail_receivers SET email = ? WHERE user_id = ?"
QUEUE = (
    "INSERT INTO mail_outbox (mail_id, message_id, user_id, business_date, amount_cents, payload, status, held,"
    " attempts, due_at, queued_at) VALUES (?, ?, ?, ?, ?, ?, 'queued', 0, 0, ?, ?)"
    " ON CONFLICT (user_id, business_date) DO NOTHING"
)

_encode = msgspec.json.Encoder().encode


def consume(events: Sequence[Delivered[Event]], context: Context) -> None:
    """Take events; a person is registered before their address changes, since both are of one subject."""
    registered = _of(UserRegistered, events)
    insert_many(context.connection, MEET, [(each.user_id, each.username, each.email) for each in registered])
    moved = {each.user_id: each.email for each in _of(UserEmailChanged, events)}
    insert_many(context.connection, MOVE, [(email, user_id) for user_id, email in moved.items()])
    now = stamp(context.now)
    insert_many(context.connection, QUEUE, [_mail(each, now, context) for each in _of(PayoutMade, events)])


CONSUMER = Consumer("mail", (UserRegistered, UserEmailChanged, PayoutMade), consume)


def _of(kind: type[E], events: Sequence[Delivered[Event]]) -> list[E]:
    return [event.data for event in events if isinstance(event.data, kind)]


def _mail(payout: PayoutMade, now: str, context: Context) -> tuple[str | int, ...]:
    mail_id = context.events.new_id()
    return (
        mail_id,
        message_id_of(mail_id),
        payout.user_id,
        payout.business_date.isoformat(),
        payout.amount_cents,
        _encode(payout).decode(),
        now,
        now,
    )

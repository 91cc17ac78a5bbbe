"""What mail does about events: it knows everybody's address, queues each payslip and notes each day to sum up."""

from collections.abc import Sequence
from typing import TypeVar, cast

import msgspec

from popug_cli.bus.consumers import Consumer
from popug_cli.bus.runtime import Context
from popug_cli.kernel.clock import stamp
from popug_cli.mail.rules import message_id_of
from popug_cli.messages.base import Event
from popug_cli.messages.billing import DayClosed, PayoutMade
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.identity import (
    UserDeactivated,
    UserEmailChanged,
    UserReactivated,
    UserRegistered,
    UserRoleChanged,
)
from popug_cli.messages.mail import MailKind
from popug_cli.storage.engine import insert_many

PAYSLIP = MailKind.PAYSLIP.value
E = TypeVar("E", bound=Event)

MEET = (
    "INSERT INTO mail_receivers (user_id, username, email, role, active) VALUES (?, ?, ?, ?, 1)"
    " ON CONFLICT (user_id) DO UPDATE SET username = excluded.username, email = excluded.email"
)
PROMOTE = "UPDATE mail_receivers SET role = ? WHERE user_id = ?"
LET_GO = "UPDATE mail_receivers SET active = ? WHERE user_id = ?"
NOTE_DAY = (
    "INSERT INTO mail_summaries (business_date, payload, queued) VALUES (?, ?, 0)"
    " ON CONFLICT (business_date) DO NOTHING"
)
MOVE = "UPDATE mail_receivers SET email = ? WHERE user_id = ?"
QUEUE = (
    "INSERT INTO mail_outbox (mail_id, message_id, user_id, business_date, kind, amount_cents, payload, cause_id,"
    " status, held, attempts, due_at, queued_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'queued', 0, 0, ?, ?)"
    " ON CONFLICT (user_id, business_date, kind) DO NOTHING"
)

_encode = msgspec.json.Encoder().encode


def consume(events: Sequence[Delivered[Event]], context: Context) -> None:
    """Take events; a person is registered before their address changes, since both are of one subject."""
    registered = _of(UserRegistered, events)
    insert_many(context.connection, MEET, [(each.user_id, each.username, each.email, each.role) for each in registered])
    moved = {each.user_id: each.email for each in _of(UserEmailChanged, events)}
    insert_many(context.connection, MOVE, [(email, user_id) for user_id, email in moved.items()])
    roles = {each.user_id: each.new_role for each in _of(UserRoleChanged, events)}
    insert_many(context.connection, PROMOTE, [(role, user_id) for user_id, role in roles.items()])
    insert_many(context.connection, LET_GO, [(there, user_id) for user_id, there in _presence(events).items()])
    now = stamp(context.now)
    insert_many(context.connection, QUEUE, [_mail(each, now, context) for each in _delivered(PayoutMade, events)])
    if context.settings.flag("mail.summary"):
        closed = _of(DayClosed, events)
        insert_many(
            context.connection, NOTE_DAY, [(each.business_date.isoformat(), _encode(each).decode()) for each in closed]
        )


CONSUMER = Consumer(
    "mail",
    (UserRegistered, UserEmailChanged, UserRoleChanged, UserDeactivated, UserReactivated, PayoutMade, DayClosed),
    consume,
    at_once=500,  # each becomes a row of its own
)


def _delivered(kind: type[E], events: Sequence[Delivered[Event]]) -> list[Delivered[E]]:
    return cast("list[Delivered[E]]", [event for event in events if isinstance(event.data, kind)])


def _of(kind: type[E], events: Sequence[Delivered[Event]]) -> list[E]:
    return [event.data for event in _delivered(kind, events)]


def _presence(events: Sequence[Delivered[Event]]) -> dict[str, int]:
    """Who left and who came back, as it stands after the events."""
    told = [event.data for event in events if isinstance(event.data, UserDeactivated | UserReactivated)]
    return {each.user_id: int(isinstance(each, UserReactivated)) for each in told}


def _mail(event: Delivered[PayoutMade], now: str, context: Context) -> tuple[str | int, ...]:
    payout, mail_id = event.data, context.events.new_id()
    return (
        mail_id,
        message_id_of(mail_id),
        payout.user_id,
        payout.business_date.isoformat(),
        PAYSLIP,
        payout.amount_cents,
        _encode(payout).decode(),
        event.id,
        now,
        now,
    )

"""Event consumer of mail: keeps the receivers' addresses, queues payslips and records the days to summarize."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from functools import cache
from typing import Any, TypeVar

import msgspec

from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Context
from popug_cli.kernel.clock import to_rfc3339
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

PAYSLIP = MailKind.PAYSLIP.value
E = TypeVar("E", bound=Event)

UPSERT_RECEIVER = (
    "INSERT INTO mail_receivers (user_id, username, email, role, active) VALUES (?, ?, ?, ?, 1)"
    " ON CONFLICT (user_id) DO UPDATE SET username = excluded.username, email = excluded.email"
)
SET_ROLE = "UPDATE mail_receivers SET role = ? WHERE user_id = ?"
SET_ACTIVE = "UPDATE mail_receivers SET active = ? WHERE user_id = ?"
INSERT_DAY = (
    "INSERT INTO mail_summaries (business_date, payload, queued) VALUES (?, ?, 0)"
    " ON CONFLICT (business_date) DO NOTHING"
)
SET_EMAIL = "UPDATE mail_receivers SET email = ? WHERE user_id = ?"
INSERT_MAIL = (
    "INSERT INTO mail_outbox (mail_id, message_id, user_id, business_date, kind, amount_cents, payload, cause_id,"
    " status, held, attempts, due_at, queued_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'queued', 0, 0, ?, ?)"
    " ON CONFLICT (user_id, business_date, kind) DO NOTHING"
)

_encode = msgspec.json.Encoder().encode


def consume(events: Sequence[Delivered[Event]], context: Context) -> None:
    """Process events, grouped by kind.

    Registrations come first. This keeps the order, because all events about a user have the same subject.
    """
    by_kind = _ByKind(events)
    registered = by_kind.data_of(UserRegistered)
    context.connection.insert_many(
        UPSERT_RECEIVER,
        [(event.user_id, event.username, event.email, event.role) for event in registered],
    )
    emails = {event.user_id: event.email for event in by_kind.data_of(UserEmailChanged)}
    context.connection.insert_many(SET_EMAIL, [(email, user_id) for user_id, email in emails.items()])
    roles = {event.user_id: event.new_role for event in by_kind.data_of(UserRoleChanged)}
    context.connection.insert_many(SET_ROLE, [(role, user_id) for user_id, role in roles.items()])
    context.connection.insert_many(SET_ACTIVE, [(active, user_id) for user_id, active in _activity(by_kind).items()])
    _queue_payslips(by_kind.delivered(PayoutMade), context)
    if context.settings.flag("mail.summary"):
        closed = by_kind.data_of(DayClosed)
        context.connection.insert_many(
            INSERT_DAY,
            [(event.business_date.isoformat(), _encode(event).decode()) for event in closed],
        )


CONSUMER = Consumer(
    "mail",
    (UserRegistered, UserEmailChanged, UserRoleChanged, UserDeactivated, UserReactivated, PayoutMade, DayClosed),
    consume,
    max_batch=500,  # each payout inserts a row
)


class _ByKind:
    """Events grouped by kind, each group in log order."""

    def __init__(self, events: Sequence[Delivered[Event]]) -> None:
        self._by_kind: dict[type[Event], list[Delivered[Any]]] = defaultdict(list)
        for event in events:
            self._by_kind[type(event.data)].append(event)

    def delivered(self, kind: type[E]) -> list[Delivered[E]]:
        """Return the events of a kind with their envelopes."""
        return self._by_kind[kind]

    def data_of(self, kind: type[E]) -> list[E]:
        """Return the data of the events of a kind."""
        return [event.data for event in self.delivered(kind)]


def _activity(events: _ByKind) -> dict[str, int]:
    """Return 0 or 1 by user id: whether each deactivated or reactivated user is active after the events."""
    changes = [
        *((event.sequence, event.data.user_id, 0) for event in events.delivered(UserDeactivated)),
        *((event.sequence, event.data.user_id, 1) for event in events.delivered(UserReactivated)),
    ]
    return {user_id: active for _, user_id, active in sorted(changes)}


def _queue_payslips(payouts: Sequence[Delivered[PayoutMade]], context: Context) -> None:
    now, dated = to_rfc3339(context.now), cache(date.isoformat)
    rows = []
    for event in payouts:
        payout, mail_id = event.data, context.events.new_id()
        rows.append(
            (
                mail_id,
                message_id_of(mail_id),
                payout.user_id,
                dated(payout.business_date),
                PAYSLIP,
                payout.amount_cents,
                _encode(payout).decode(),
                event.id,
                now,
                now,
            )
        )
    context.connection.insert_many(INSERT_MAIL, rows)

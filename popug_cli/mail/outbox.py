"""The outbox: mails are claimed with a lease in one transaction and marked in another."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import msgspec
from sqlalchemy import bindparam, text

from popug_cli.bus.runtime import Context
from popug_cli.kernel.chance import unit_interval
from popug_cli.kernel.clock import parse_stamp, stamp
from popug_cli.mail.rules import wait_after
from popug_cli.mail.summary import Summary, content_of
from popug_cli.messages.base import Event, Role
from popug_cli.messages.billing import PayoutMade
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.mail import MailFailed, MailReleased, MailSent

CLAIMABLE = (
    "FROM mail_outbox JOIN mail_receivers ON mail_receivers.user_id = mail_outbox.user_id"
    " WHERE status <> 'sent' AND (status = 'queued' AND held = 0 AND (:whenever OR due_at <= :now)"
    " OR status = 'sending' AND lease_until <= :now)"
)
COUNT_CLAIMABLE = text(f"SELECT count(*) {CLAIMABLE}")
NEXT = text(
    f"SELECT mail_id, message_id, mail_outbox.user_id AS user_id, business_date, kind, payload, cause_id, attempts,"
    f" queued_at, username, email, role, active {CLAIMABLE}"
    " AND mail_id > :after ORDER BY mail_id LIMIT :limit"
)
LEASE = text(
    "UPDATE mail_outbox SET status = 'sending', lease_until = :lease_until WHERE mail_id IN :mails"
).bindparams(bindparam("mails", expanding=True))
MARK_SENT = text(
    "UPDATE mail_outbox SET status = 'sent', attempts = attempts + 1, lease_until = NULL, last_error = NULL,"
    " sent_at = :now, sent_to = :sent_to WHERE mail_id = :mail AND status <> 'sent'"
)
MARK_FAILED = text(
    "UPDATE mail_outbox SET status = 'failed', attempts = attempts + 1, lease_until = NULL, last_error = :error"
    " WHERE mail_id = :mail AND status = 'sending' AND lease_until = :lease_until"
)
PUT_BACK = text(
    "UPDATE mail_outbox SET status = 'queued', attempts = attempts + 1, lease_until = NULL, last_error = :error,"
    " due_at = :due_at WHERE mail_id = :mail AND status = 'sending' AND lease_until = :lease_until"
)
UNTOUCHED = text(
    "UPDATE mail_outbox SET status = 'queued', lease_until = NULL"
    " WHERE mail_id = :mail AND status = 'sending' AND lease_until = :lease_until"
)


class Claimed(msgspec.Struct, frozen=True):
    """A mail that is this process's to send until ``lease_until``."""

    mail_id: str
    message_id: str
    user_id: str
    username: str
    email: str
    role: Role
    active: bool
    business_date: date
    content: PayoutMade | Summary
    cause_id: str | None
    attempts: int
    queued_at: datetime
    lease_until: datetime


def claim(context: Context, *, after: str, limit: int, lease_until: datetime, whenever: bool) -> list[Claimed]:
    """Lease the next mails to be sent after a mail id; ``whenever`` takes what is not due yet, too."""
    connection = context.connection
    parameters = {"after": after, "limit": limit, "now": stamp(context.now), "whenever": whenever}
    mails = [_claimed(row, lease_until) for row in connection.execute(NEXT, parameters).mappings()]
    if mails:
        connection.execute(LEASE, {"lease_until": stamp(lease_until), "mails": [mail.mail_id for mail in mails]})
    return mails


def count_claimable(context: Context, *, whenever: bool) -> int:
    """How many mails could be claimed now."""
    parameters = {"now": stamp(context.now), "whenever": whenever}
    return int(context.connection.execute(COUNT_CLAIMABLE, parameters).scalar_one())


def count_unsent(context: Context) -> tuple[int, int]:
    """How many mails are still to be sent, and how many of these are held back."""
    statement = text(
        "SELECT count(*), coalesce(sum(held), 0) FROM mail_outbox"
        " WHERE status <> 'sent' AND status IN ('queued', 'sending')"
    )
    unsent, held = context.connection.execute(statement).one()
    return int(unsent), int(held)


def release_held(context: Context) -> None:
    """Let go what is held back, and tell of each."""
    statement = (
        "UPDATE mail_outbox SET held = 0 WHERE held = 1 AND status <> 'sent' RETURNING mail_id, user_id, business_date"
    )
    for row in sorted(context.connection.execute(text(statement)).all()):
        context.events.publish(msgspec.convert(dict(row._mapping), MailReleased))


def hold_all(context: Context) -> None:
    """Hold back whatever is not sent, until somebody lets it go."""
    statement = (
        "UPDATE mail_outbox SET held = 1, lease_until = NULL,"
        " status = CASE status WHEN 'sending' THEN 'queued' ELSE status END WHERE status <> 'sent'"
    )
    context.connection.execute(text(statement))


def mark_sent(context: Context, mail: Claimed) -> None:
    """The transport has taken it."""
    changed = _run(context, MARK_SENT, mail=mail.mail_id, now=stamp(context.now), sent_to=mail.email)
    if changed:
        context.events.publish(
            MailSent(mail_id=mail.mail_id, user_id=mail.user_id, business_date=mail.business_date),
            cause=_cause_of(context, mail),
        )


def mark_failed(context: Context, mail: Claimed, error: str) -> None:
    """The transport refuses it for good."""
    changed = _run(context, MARK_FAILED, mail=mail.mail_id, error=error, lease_until=stamp(mail.lease_until))
    if changed:
        context.events.publish(
            MailFailed(mail_id=mail.mail_id, user_id=mail.user_id, business_date=mail.business_date, error=error),
            cause=_cause_of(context, mail),
        )


def put_back(context: Context, mail: Claimed, error: str) -> None:
    """It could not be sent now and is due again after a while."""
    due_at = context.now + wait_after(mail.attempts + 1, unit_interval(context.chance))
    lease = stamp(mail.lease_until)
    _run(context, PUT_BACK, mail=mail.mail_id, error=error, due_at=stamp(due_at), lease_until=lease)


def postpone(context: Context, tried: Claimed) -> None:
    """Let all mail wait as long as the one that was tried, for there is nobody to take it."""
    statement = (
        "UPDATE mail_outbox SET due_at = coalesce((SELECT one.due_at FROM mail_outbox one WHERE one.mail_id = :mail),"
        " due_at) WHERE status <> 'sent' AND status = 'queued' AND due_at <= :now"
    )
    _run(context, text(statement), mail=tried.mail_id, now=stamp(context.now))


def give_back(context: Context, mails: Sequence[Claimed]) -> None:
    """They were not tried."""
    for mail in mails:
        _run(context, UNTOUCHED, mail=mail.mail_id, lease_until=stamp(mail.lease_until))


def _cause_of(context: Context, mail: Claimed) -> Delivered[Event] | None:
    """The event that a payslip tells of."""
    return context.log.by_id(mail.cause_id) if mail.cause_id else None


def _claimed(row: Any, lease_until: datetime) -> Claimed:
    fields = {name: row[name] for name in Claimed.__struct_fields__ if name in row}
    content = content_of(row["kind"], row["payload"])
    return Claimed(
        **{
            **fields,
            "role": Role(row["role"]),
            "active": bool(row["active"]),
            "business_date": date.fromisoformat(row["business_date"]),
            "queued_at": parse_stamp(row["queued_at"]),
        },
        content=content,
        lease_until=lease_until,
    )


def _run(context: Context, statement: Any, **parameters: Any) -> bool:
    return bool(context.connection.execute(statement, parameters).rowcount)

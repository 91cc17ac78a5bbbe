"""The outbox: mails are claimed with a lease in one transaction and marked in another.

That a mail was sent is marked by itself, at once; what follows from it, the ``mail_sent``, is owed until it is told
together with that of others, by whoever comes next where the sender died.
"""

import json
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import text

from popug_cli.bus.runtime import Context, Note
from popug_cli.kernel.chance import unit_interval
from popug_cli.kernel.clock import parse_stamp, stamp
from popug_cli.kernel.settings import LONGEST_STEP_SECONDS
from popug_cli.mail.rules import LONGEST_WAIT_SECONDS, lease_of, wait_after
from popug_cli.messages.mail import MailFailed, MailReleased, MailSent
from popug_cli.storage.engine import change, driver_of, insert_many, scalar

# No wait and no lease is as long as what is beyond: those were given by a clock that has been set back since.
CLAIMABLE = (
    "FROM mail_outbox JOIN mail_receivers ON mail_receivers.user_id = mail_outbox.user_id"
    " WHERE told = 0 AND (status = 'queued' AND held = 0"
    " AND (:whenever OR due_at <= :now OR due_at > :beyond_waits)"
    " OR status = 'sending' AND (lease_until <= :now OR lease_until > :beyond_leases))"
)
FAIRLY = "ORDER BY attempts, due_at, mail_id"
COUNT_CLAIMABLE = f"SELECT count(*) {CLAIMABLE}"
ALL_CLAIMABLE = f"SELECT mail_id {CLAIMABLE} {FAIRLY}"
AMONG = "mail_id IN (SELECT value FROM json_each(:mail_ids))"
CLAIM = (
    "SELECT mail_id, message_id, mail_outbox.user_id, business_date, kind, payload, cause_id, attempts, queued_at,"
    f" username, email, role, active {CLAIMABLE} AND {AMONG} {FAIRLY}"
)
DAY = 3
LEASE = "UPDATE mail_outbox SET status = 'sending', lease_until = ? WHERE mail_id = ?"
MARK_SENT = (
    "UPDATE mail_outbox SET status = 'sent', attempts = attempts + 1, lease_until = NULL, last_error = NULL,"
    " sent_at = ?, sent_to = ? WHERE mail_id = ? AND status <> 'sent'"
)
OWED = "FROM mail_outbox WHERE told = 0 AND status = 'sent'"
TO_TELL = f"SELECT mail_id, user_id, business_date, cause_id {OWED}"
MARK_FAILED = (
    "UPDATE mail_outbox SET status = 'failed', attempts = attempts + 1, lease_until = NULL, last_error = :error"
    " WHERE mail_id = :mail AND status = 'sending' AND lease_until = :lease_until"
)
PUT_BACK = (
    "UPDATE mail_outbox SET status = 'queued', attempts = attempts + 1, lease_until = NULL, last_error = :error,"
    " due_at = :due_at WHERE mail_id = :mail AND status = 'sending' AND lease_until = :lease_until"
)
UNTOUCHED = (
    "UPDATE mail_outbox SET status = 'queued', lease_until = NULL"
    " WHERE mail_id = :mail AND status = 'sending' AND lease_until = :lease_until"
)


class Claimed(NamedTuple):
    """A mail that is this process's to send until ``lease_until``; time and payload are as they are stored."""

    mail_id: str
    message_id: str
    user_id: str
    business_date: date
    kind: str
    payload: str
    cause_id: str | None
    attempts: int
    queued_at: str
    username: str
    email: str
    role: str
    active: int
    lease_until: datetime


def claimable(context: Context, *, whenever: bool) -> list[str]:
    """The ids of the mails that could be claimed now; what has failed comes after what was never tried.

    So no mail that ends a run keeps the others from going out. ``whenever`` takes what is not due yet, too.
    """
    rows = driver_of(context.connection).execute(ALL_CLAIMABLE, _limits(context, whenever=whenever))
    return [mail_id for (mail_id,) in rows]


def claim(context: Context, mail_ids: Sequence[str], *, lease_until: datetime, whenever: bool) -> list[Claimed]:
    """Lease those of the mails that can be claimed still."""
    parameters = _limits(context, whenever=whenever) | {"mail_ids": json.dumps(mail_ids)}
    rows = driver_of(context.connection).execute(CLAIM, parameters).fetchall()
    insert_many(context.connection, LEASE, [(stamp(lease_until), row[0]) for row in rows])
    return [Claimed._make((*row[:DAY], date.fromisoformat(row[DAY]), *row[DAY + 1 :], lease_until)) for row in rows]


def count_claimable(context: Context, *, whenever: bool) -> int:
    """How many mails could be claimed now."""
    return int(scalar(context.connection, COUNT_CLAIMABLE, **_limits(context, whenever=whenever)))


def _limits(context: Context, *, whenever: bool) -> dict[str, Any]:
    return {
        "whenever": whenever,
        "now": stamp(context.now),
        "beyond_waits": stamp(context.now + timedelta(seconds=LONGEST_WAIT_SECONDS)),
        "beyond_leases": stamp(context.now + lease_of(LONGEST_STEP_SECONDS)),
    }


def count_unsent(context: Context) -> tuple[int, int]:
    """How many mails are still to be sent, and how many of these are held back."""
    statement = text(
        "SELECT count(*), coalesce(sum(held), 0) FROM mail_outbox WHERE told = 0 AND status IN ('queued', 'sending')"
    )
    unsent, held = context.connection.execute(statement).one()
    return int(unsent), int(held)


def claimed_until(context: Context) -> datetime | None:
    """When the last of the leases ends by which mails are being sent; None where none is."""
    found = scalar(context.connection, "SELECT max(lease_until) FROM mail_outbox WHERE told = 0 AND status = 'sending'")
    return parse_stamp(found) if found else None


def release_held(context: Context) -> None:
    """Let go what is held back, and tell of each."""
    statement = (
        "UPDATE mail_outbox SET held = 0 WHERE told = 0 AND held = 1 AND status <> 'sent'"
        " RETURNING mail_id, user_id, business_date"
    )
    for row in sorted(context.connection.execute(text(statement)).all()):
        context.events.publish(msgspec.convert(dict(row._mapping), MailReleased))


def hold_all(context: Context) -> None:
    """Hold back whatever is not sent, until somebody lets it go."""
    statement = (
        "UPDATE mail_outbox SET held = 1, lease_until = NULL,"
        " status = CASE status WHEN 'sending' THEN 'queued' ELSE status END WHERE told = 0 AND status <> 'sent'"
    )
    context.connection.execute(text(statement))


def mark_sent(note: Note, mails: Sequence[Claimed], now: datetime) -> None:
    """The transport has taken them; to be told."""
    note(MARK_SENT, [(stamp(now), mail.email, mail.mail_id) for mail in mails])


def owes(context: Context) -> bool:
    """Whether there are mails that were sent and not told of."""
    return bool(scalar(context.connection, f"SELECT EXISTS (SELECT 1 {OWED})"))


def tell_sent(context: Context, mail_ids: Sequence[str] | None = None) -> None:
    """Tell of the mails that were sent and not told of, those of some ids or all."""
    statement = f"{TO_TELL} ORDER BY mail_id" if mail_ids is None else f"{TO_TELL} AND {AMONG} ORDER BY mail_id"
    rows = driver_of(context.connection).execute(statement, {"mail_ids": json.dumps(mail_ids)}).fetchall()
    causes = context.log.by_ids([cause_id for *_, cause_id in rows if cause_id])
    for mail_id, user_id, day, cause_id in rows:
        sent = MailSent(mail_id=mail_id, user_id=user_id, business_date=date.fromisoformat(day))
        context.events.publish(sent, cause=causes.get(cause_id))
    insert_many(context.connection, "UPDATE mail_outbox SET told = 1 WHERE mail_id = ?", [row[:1] for row in rows])


def mark_failed(context: Context, mail: Claimed, error: str) -> None:
    """The transport refuses it for good."""
    lease = stamp(mail.lease_until)
    if change(context.connection, MARK_FAILED, mail=mail.mail_id, error=error, lease_until=lease):
        cause = context.log.by_id(mail.cause_id) if mail.cause_id else None
        failed = MailFailed(mail_id=mail.mail_id, user_id=mail.user_id, business_date=mail.business_date, error=error)
        context.events.publish(failed, cause=cause)


def put_back(context: Context, mail: Claimed, error: str) -> None:
    """It could not be sent now and is due again after a while."""
    due_at = context.now + wait_after(mail.attempts + 1, unit_interval(context.chance))
    lease = stamp(mail.lease_until)
    change(context.connection, PUT_BACK, mail=mail.mail_id, error=error, due_at=stamp(due_at), lease_until=lease)


def postpone_all(context: Context, error: str, times: int) -> None:
    """Let all mail wait, for an error has ended a run in which it was met by so many mails.

    The wait is that of a mail which has failed as often as runs have ended so.
    """
    counted = "SELECT sum(attempts) FROM mail_outbox WHERE told = 0 AND status = 'queued' AND last_error = :error"
    runs = int(scalar(context.connection, counted, error=error) or 0) // max(1, times)
    due_at = context.now + wait_after(max(1, runs), unit_interval(context.chance))
    statement = (
        "UPDATE mail_outbox SET due_at = :due_at WHERE told = 0 AND status = 'queued' AND due_at < :due_at"
        " AND (due_at <= :now OR last_error = :error)"
    )
    change(context.connection, statement, due_at=stamp(due_at), now=stamp(context.now), error=error)


def give_back(context: Context, mails: Sequence[Claimed]) -> None:
    """They were not tried."""
    for mail in mails:
        change(context.connection, UNTOUCHED, mail=mail.mail_id, lease_until=stamp(mail.lease_until))

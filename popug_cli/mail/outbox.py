"""The outbox: mails are claimed with a lease in one transaction and marked in another.

A sent mail is marked at once, in its own transaction. The ``mail_sent`` event is published later in a batch; if the
sender dies first, the next process publishes it.
"""

import json
import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from popug_cli.bus.context import Context, WriteStatement
from popug_cli.kernel.clock import from_rfc3339, to_rfc3339
from popug_cli.kernel.randomness import random_unit
from popug_cli.kernel.settings import MAX_SMTP_TIMEOUT_SECONDS
from popug_cli.kernel.stored_values import from_iso_date
from popug_cli.mail.rules import MAX_WAIT_SECONDS, lease_duration, wait_after
from popug_cli.messages.internal.mail import CountMails, MailCounts
from popug_cli.messages.mail import MailFailed, MailReleased, MailSent

# A due time or lease beyond these limits was set before the clock was set back, so it does not count.
CLAIMABLE = (
    "FROM mail_outbox JOIN mail_receivers ON mail_receivers.user_id = mail_outbox.user_id"
    " WHERE told = 0 AND (status = 'queued' AND held = 0"
    " AND (:include_not_due = 1 OR due_at <= :now OR due_at > :beyond_waits)"
    " OR status = 'sending' AND (lease_until <= :now OR lease_until > :beyond_leases))"
)
RETRY_ORDER = "ORDER BY attempts, due_at, mail_id"
COUNT_CLAIMABLE = f"SELECT count(*) {CLAIMABLE}"
SELECT_CLAIMABLE_IDS = f"SELECT mail_id {CLAIMABLE} {RETRY_ORDER}"
IN_MAIL_IDS = "mail_id IN (SELECT value FROM json_each(:mail_ids))"
SELECT_CLAIMABLE = (
    "SELECT mail_id, message_id, mail_outbox.user_id, business_date, kind, payload, cause_id, attempts, queued_at,"
    f" username, email, role, active {CLAIMABLE} AND {IN_MAIL_IDS} {RETRY_ORDER}"
)
DATE_COLUMN = 3
PERMANENT_ERROR = re.compile(r"^5\d\d|: 5\d\d |mail\.smtp_")
SET_LEASE = "UPDATE mail_outbox SET status = 'sending', lease_until = ? WHERE mail_id = ?"
MARK_SENT = (
    "UPDATE mail_outbox SET status = 'sent', attempts = attempts + 1, lease_until = NULL, last_error = NULL,"
    " sent_at = ?, sent_to = ? WHERE mail_id = ? AND status <> 'sent'"
)
UNPUBLISHED = "FROM mail_outbox WHERE told = 0 AND status = 'sent'"
SELECT_UNPUBLISHED = f"SELECT mail_id, user_id, business_date, cause_id {UNPUBLISHED}"
MARK_FAILED = (
    "UPDATE mail_outbox SET status = 'failed', attempts = attempts + 1, lease_until = NULL, last_error = :error"
    " WHERE mail_id = :mail AND status = 'sending' AND lease_until = :lease_until"
)
RESCHEDULE = (
    "UPDATE mail_outbox SET status = 'queued', attempts = attempts + 1, lease_until = NULL, last_error = :error,"
    " due_at = :due_at WHERE mail_id = :mail AND status = 'sending' AND lease_until = :lease_until"
)
RELEASE = (
    "UPDATE mail_outbox SET status = 'queued', lease_until = NULL"
    " WHERE mail_id = :mail AND status = 'sending' AND lease_until = :lease_until"
)


class ClaimedMail(NamedTuple):
    """A mail leased to this process until `lease_until`; `queued_at` and `payload` are in their stored form."""

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


def claimable(context: Context, *, include_not_due: bool) -> list[str]:
    """Return the ids of the mails that can be claimed now, those with the fewest attempts first.

    So a mail that aborts each run does not block the others. `include_not_due` adds mails that are not due yet.
    """
    rows = context.connection.select(SELECT_CLAIMABLE_IDS, **_limits(context, include_not_due=include_not_due))
    return [mail_id for (mail_id,) in rows]


def claim(
    context: Context, mail_ids: Sequence[str], *, lease_until: datetime, include_not_due: bool
) -> list[ClaimedMail]:
    """Lease the mails among `mail_ids` that can still be claimed, and return them."""
    parameters = _limits(context, include_not_due=include_not_due) | {"mail_ids": json.dumps(mail_ids)}
    rows = context.connection.select(SELECT_CLAIMABLE, **parameters)
    context.connection.insert_many(SET_LEASE, [(to_rfc3339(lease_until), row[0]) for row in rows])
    return [
        ClaimedMail._make((*row[:DATE_COLUMN], from_iso_date(row[DATE_COLUMN]), *row[DATE_COLUMN + 1 :], lease_until))
        for row in rows
    ]


def count_claimable(context: Context, *, include_not_due: bool) -> int:
    """Return how many mails can be claimed now."""
    return int(context.connection.scalar(COUNT_CLAIMABLE, **_limits(context, include_not_due=include_not_due)))


def _limits(context: Context, *, include_not_due: bool) -> dict[str, Any]:
    return {
        "include_not_due": include_not_due,
        "now": to_rfc3339(context.now),
        "beyond_waits": to_rfc3339(context.now + timedelta(seconds=MAX_WAIT_SECONDS)),
        "beyond_leases": to_rfc3339(context.now + lease_duration(MAX_SMTP_TIMEOUT_SECONDS)),
    }


def count_unsent(context: Context) -> tuple[int, int]:
    """Return how many mails are still to be sent, and how many of them are held."""
    statement = (
        "SELECT count(*), coalesce(sum(held), 0) FROM mail_outbox WHERE told = 0 AND status IN ('queued', 'sending')"
    )
    [(unsent, held)] = context.connection.select(statement)
    return int(unsent), int(held)


def count_mails(message: CountMails, context: Context) -> MailCounts:
    """Return how many mails are to be sent, and how many have failed."""
    return MailCounts(*count_unsent(context), count_failed(context))


def count_failed(context: Context) -> int:
    """Return how many mails have failed."""
    return int(context.connection.scalar("SELECT count(*) FROM mail_outbox WHERE told = 0 AND status = 'failed'"))


def stuck_error(context: Context, *, before: datetime) -> str | None:
    """Return the error that keeps mail queued until the operator fixes its cause, or None.

    That is a permanent rejection, an error that names a setting, or any error of a mail that was queued `before`.
    """
    errors = context.connection.select(
        "SELECT last_error, min(queued_at) FROM mail_outbox WHERE told = 0 AND status = 'queued' AND held = 0"
        " AND last_error IS NOT NULL GROUP BY last_error ORDER BY max(attempts) DESC"
    )
    limit = to_rfc3339(before)
    return next((error for error, queued_at in errors if queued_at < limit or PERMANENT_ERROR.search(error)), None)


def claimed_until(context: Context) -> datetime | None:
    """Return when the last lease ends, or None if no mail is leased."""
    lease_until = context.connection.scalar(
        "SELECT max(lease_until) FROM mail_outbox WHERE told = 0 AND status = 'sending'"
    )
    return from_rfc3339(lease_until) if lease_until else None


def release_held(context: Context) -> None:
    """Release all held mails and publish ``mail_released`` for each."""
    statement = (
        "UPDATE mail_outbox SET held = 0 WHERE told = 0 AND held = 1 AND status <> 'sent'"
        " RETURNING mail_id, user_id, business_date"
    )
    for row in sorted(context.connection.records(statement), key=itemgetter("mail_id")):
        context.events.publish(msgspec.convert(row, MailReleased))


def hold_all(context: Context) -> None:
    """Hold all mails that are not sent until the operator releases them; their leases end."""
    statement = (
        "UPDATE mail_outbox SET held = 1, lease_until = NULL,"
        " status = CASE status WHEN 'sending' THEN 'queued' ELSE status END WHERE told = 0 AND status <> 'sent'"
    )
    context.connection.execute(statement)


def mark_sent(write: WriteStatement, mails: Sequence[ClaimedMail], now: datetime) -> None:
    """Mark mails that the transport accepted as sent; their ``mail_sent`` events are still to be published."""
    write(MARK_SENT, [(to_rfc3339(now), mail.email, mail.mail_id) for mail in mails])


def has_unpublished(context: Context) -> bool:
    """Return whether a sent mail has an unpublished ``mail_sent`` event."""
    return bool(context.connection.scalar(f"SELECT EXISTS (SELECT 1 {UNPUBLISHED})"))


def publish_sent(context: Context, mail_ids: Sequence[str] | None = None) -> None:
    """Publish the outstanding ``mail_sent`` events, of the mails in `mail_ids` or of all."""
    statement = (
        f"{SELECT_UNPUBLISHED} ORDER BY mail_id"
        if mail_ids is None
        else f"{SELECT_UNPUBLISHED} AND {IN_MAIL_IDS} ORDER BY mail_id"
    )
    rows = context.connection.select(statement, mail_ids=json.dumps(mail_ids))
    causes = context.log.by_ids([cause_id for *_, cause_id in rows if cause_id])
    for mail_id, user_id, day, cause_id in rows:
        sent = MailSent(mail_id=mail_id, user_id=user_id, business_date=from_iso_date(day))
        context.events.publish(sent, cause=causes.get(cause_id))
    context.connection.insert_many("UPDATE mail_outbox SET told = 1 WHERE mail_id = ?", [row[:1] for row in rows])


def mark_failed(context: Context, mail: ClaimedMail, error: str) -> None:
    """Mark a mail that the transport rejected permanently as failed, and publish ``mail_failed``.

    Do nothing if its lease is not held any more.
    """
    lease = to_rfc3339(mail.lease_until)
    if context.connection.execute(MARK_FAILED, mail=mail.mail_id, error=error, lease_until=lease):
        cause = context.log.by_id(mail.cause_id) if mail.cause_id else None
        failed = MailFailed(mail_id=mail.mail_id, user_id=mail.user_id, business_date=mail.business_date, error=error)
        context.events.publish(failed, cause=cause)


def reschedule(context: Context, mail: ClaimedMail, error: str) -> None:
    """Queue a mail again that could not be sent, due after a back-off."""
    due_at = context.now + wait_after(mail.attempts + 1, random_unit(context.randomness))
    lease = to_rfc3339(mail.lease_until)
    context.connection.execute(RESCHEDULE, mail=mail.mail_id, error=error, due_at=to_rfc3339(due_at), lease_until=lease)


def postpone_all(context: Context, error: str, error_count: int) -> None:
    """Postpone the due mails, and those with the same error, after `error` aborted a run.

    The delay grows with the number of runs that ended with this error. That number is estimated: the attempts of all
    mails with this error, divided by `error_count`, the number of mails that met it in this run.
    """
    counted = "SELECT sum(attempts) FROM mail_outbox WHERE told = 0 AND status = 'queued' AND last_error = :error"
    runs = int(context.connection.scalar(counted, error=error) or 0) // max(1, error_count)
    due_at = context.now + wait_after(max(1, runs), random_unit(context.randomness))
    statement = (
        "UPDATE mail_outbox SET due_at = :due_at WHERE told = 0 AND status = 'queued' AND due_at < :due_at"
        " AND (due_at <= :now OR last_error = :error)"
    )
    context.connection.execute(statement, due_at=to_rfc3339(due_at), now=to_rfc3339(context.now), error=error)


def release(context: Context, mails: Sequence[ClaimedMail]) -> None:
    """Release the leases of mails that were not attempted."""
    for mail in mails:
        context.connection.execute(RELEASE, mail=mail.mail_id, lease_until=to_rfc3339(mail.lease_until))

"""Messages of mail: the outbox of payslips and summaries."""

from datetime import date, datetime
from enum import StrEnum

import msgspec

from popug_cli.messages.base import ACCOUNTING, Command, Count, Event, Id, Limit, Query, declare, event
from popug_cli.messages.identity import Scope


class MailStatus(StrEnum):
    """The status of a mail."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"


class MailKind(StrEnum):
    """The kind of a mail: a user's payslip, or the summary of a day for accountants and admins."""

    PAYSLIP = "payslip"
    SUMMARY = "summary"


class MailLine(msgspec.Struct, frozen=True):
    """A mail. ``to`` is a bare address, until it is sent the user's current one; a restore makes unsent mail ``held``.

    ``amount_cents`` is the payout, or the income of the day in a summary.
    """

    mail_id: str
    to: str
    subject: str
    status: MailStatus
    attempts: int
    last_error: str | None
    business_date: date
    amount_cents: int
    held: bool
    kind: MailKind


class MailDetails(MailLine, frozen=True):
    """A mail with its text."""

    message_id: str
    queued_at: datetime
    due_at: datetime
    sent_at: datetime | None
    text: str


class Mails(msgspec.Struct, frozen=True):
    """Mails, oldest first."""

    mails: list[MailLine]


class MailRunResult(msgspec.Struct, frozen=True):
    """The number of mails sent by this run, still to be sent, failed permanently in it, and ``held`` back."""

    sent: int
    queued: int
    failed: int
    held: int = 0


@declare("mail list", roles=ACCOUNTING)
class ListMails(Query[Mails], frozen=True, kw_only=True):
    """Return the mails of one status, or all. An answer has at most 10,000 mails; ``offset`` asks for the rest."""

    status: MailStatus | None = None
    limit: Limit | None = None
    offset: Count = 0


@declare("mail show", roles=ACCOUNTING)
class ShowMail(Query[MailDetails], frozen=True, kw_only=True):
    """Return one mail with its text."""

    mail_id: str


@declare("mail send", roles=ACCOUNTING, scopes=frozenset({Scope.CLOSE_DAY}), handler="mail.sending", is_workflow=True)
class SendMail(Command[MailRunResult], frozen=True, kw_only=True):
    """Send the queued mail, due or not; with ``release``, also mail that was held back by a restore."""

    release: bool = False


@declare("mail retry", roles=ACCOUNTING)
class RetryMail(Command[MailLine], frozen=True, kw_only=True):
    """Queue a failed mail again."""

    mail_id: str


class RequeuedMails(msgspec.Struct, frozen=True):
    """The number of failed mails that were queued again."""

    requeued: int


@declare("mail retry", roles=ACCOUNTING)
class RetryAllMails(Command[RequeuedMails], frozen=True, kw_only=True):
    """Queue all failed mails again."""


@event("mail", 1, subject_field="user_id")
class MailSent(Event, frozen=True, kw_only=True):
    """The transport accepted a mail."""

    mail_id: Id
    user_id: Id
    business_date: date


@event("mail", 1, subject_field="user_id")
class MailRequeued(Event, frozen=True, kw_only=True):
    """A user queued a failed mail again."""

    mail_id: Id
    user_id: Id
    business_date: date


@event("mail", 1, subject_field="user_id")
class MailReleased(Event, frozen=True, kw_only=True):
    """A user released a mail that was held back by a restore."""

    mail_id: Id
    user_id: Id
    business_date: date


@event("mail", 1, subject_field="user_id")
class MailFailed(Event, frozen=True, kw_only=True):
    """A mail failed permanently."""

    mail_id: Id
    user_id: Id
    business_date: date
    error: str | None = None

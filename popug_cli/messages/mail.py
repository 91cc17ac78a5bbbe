"""What is said to and by mail."""

from datetime import date, datetime
from enum import StrEnum

import msgspec

from popug_cli.messages.base import ACCOUNTING, Command, Event, Id, Query, declare, event
from popug_cli.messages.identity import Scope


class MailStatus(StrEnum):
    """Where a mail stands."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"


class MailKind(StrEnum):
    """What a mail is: somebody's payslip, or the summary of a day for management."""

    PAYSLIP = "payslip"
    SUMMARY = "summary"


class MailLine(msgspec.Struct, frozen=True):
    """A mail; ``to`` is the bare address, the present one until it is sent; a held one waits for its release.

    ``amount_cents`` is what was paid, or in the summary of a day its income.
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
    """A payout mail with its text."""

    message_id: str
    queued_at: datetime
    due_at: datetime
    sent_at: datetime | None
    text: str


class Mails(msgspec.Struct, frozen=True):
    """Payout mails, oldest first."""

    mails: list[MailLine]


class MailRunResult(msgspec.Struct, frozen=True):
    """Mails sent by this run, still to be sent, and set aside for good by it; ``held`` are those held back."""

    sent: int
    queued: int
    failed: int
    held: int = 0


@declare("mail list", roles=ACCOUNTING)
class ListMails(Query[Mails], frozen=True, kw_only=True):
    """Ask for payout mails, of one status or all."""

    status: MailStatus | None = None


@declare("mail show", roles=ACCOUNTING)
class ShowMail(Query[MailDetails], frozen=True, kw_only=True):
    """Ask for one payout mail with its text."""

    mail_id: str


@declare("mail send", roles=ACCOUNTING, scopes=frozenset({Scope.CLOSE_DAY}))
class SendMail(Command[MailRunResult], frozen=True, kw_only=True):
    """Send what is queued, due or not; ``release`` also frees what a restore holds back."""

    release: bool = False


@declare("mail retry", roles=ACCOUNTING)
class RetryMail(Command[MailLine], frozen=True, kw_only=True):
    """Queue a failed mail again."""

    mail_id: str


@event("mail", 1, subject_field="user_id")
class MailSent(Event, frozen=True, kw_only=True):
    """A mail was taken by the transport."""

    mail_id: Id
    user_id: Id
    business_date: date


@event("mail", 1, subject_field="user_id")
class MailRequeued(Event, frozen=True, kw_only=True):
    """Somebody has queued a failed mail again."""

    mail_id: Id
    user_id: Id
    business_date: date


@event("mail", 1, subject_field="user_id")
class MailReleased(Event, frozen=True, kw_only=True):
    """Somebody let a mail go that was held back since a restore."""

    mail_id: Id
    user_id: Id
    business_date: date


@event("mail", 1, subject_field="user_id")
class MailFailed(Event, frozen=True, kw_only=True):
    """A mail was refused for good."""

    mail_id: Id
    user_id: Id
    business_date: date
    error: str | None = None

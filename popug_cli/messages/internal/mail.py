"""Internal messages of mail."""

import msgspec

from popug_cli.messages.base import ACCOUNTING, Command, Count, Nothing, Query, declare
from popug_cli.messages.identity import Scope
from popug_cli.messages.mail import MailRunResult


class MailCounts(msgspec.Struct, frozen=True):
    """The number of mails to be sent, of those among them that are held, and of failed mails."""

    unsent: int
    held: int
    failed: int


class SummaryCount(msgspec.Struct, frozen=True):
    """The number of summaries that a close would queue."""

    summaries: int


@declare("mail list", roles=ACCOUNTING, scopes=frozenset({Scope.CLOSE_DAY}), handler="mail.outbox")
class CountMails(Query[MailCounts], frozen=True):
    """Return how many mails are to be sent, and how many have failed."""


@declare("close-day", roles=ACCOUNTING, scopes=frozenset({Scope.CLOSE_DAY}), handler="mail.summaries")
class CountSummaries(Query[SummaryCount], frozen=True, kw_only=True):
    """Return how many summaries the close of some days would queue."""

    days: Count


@declare(
    "close-day",
    roles=ACCOUNTING,
    scopes=frozenset({Scope.CLOSE_DAY}),
    handler="mail.summaries",
    is_workflow=True,
)
class QueueSummaries(Command[Nothing], frozen=True):
    """Queue the summary of every closed day that has none yet, including days that a crash left out."""


@declare("mail send", roles=ACCOUNTING, scopes=frozenset({Scope.CLOSE_DAY}), handler="mail.sending", is_workflow=True)
class SendDue(Command[MailRunResult], frozen=True, kw_only=True):
    """Send the queued mail that is due; an error is a warning. With ``if_any``, do nothing if no mail is due."""

    if_any: bool = False

"""Commands about mail. Sending is in ``sending``, because it happens outside a transaction."""

import msgspec

from popug_cli.bus.context import Context
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.errors import Conflict
from popug_cli.mail.queries import find, line_of
from popug_cli.messages.mail import MailLine, MailRequeued, MailStatus, RequeuedMails, RetryAllMails, RetryMail


def retry_mail(message: RetryMail, context: Context) -> MailLine:
    """Queue a failed mail again, due at once; leave a mail unchanged that is still to be sent.

    Raise ``mail_not_found`` or ``mail_sent``.
    """
    mail = find(message.mail_id, context)
    if mail["status"] == MailStatus.SENT:
        raise Conflict(
            "mail_sent",
            f"This mail was already sent to {mail['to']}.",
            hint=f"Run `popug mail show {message.mail_id}` to read it.",
            details={"mail_id": message.mail_id, "sent_at": mail["sent_at"]},
        )
    _requeue(context, message.mail_id)
    return line_of(message.mail_id, context)


def retry_all_mails(message: RetryAllMails, context: Context) -> RequeuedMails:
    """Queue all failed mails again, due at once."""
    return RequeuedMails(_requeue(context))


def _requeue(context: Context, mail_id: str | None = None) -> int:
    """Queue one failed mail, or all, and publish ``mail_requeued`` for each. Return their number."""
    statement = (
        "UPDATE mail_outbox SET status = 'queued', due_at = :now WHERE told = 0 AND status = 'failed'"
        " AND (CAST(:mail_id AS TEXT) IS NULL OR mail_id = :mail_id) RETURNING mail_id, user_id, business_date"
    )
    parameters = {"mail_id": mail_id, "now": to_rfc3339(context.now)}
    rows = context.connection.records(statement, **parameters)
    for row in sorted(rows, key=lambda row: str(row["mail_id"])):
        context.events.publish(msgspec.convert(row, MailRequeued))
    return len(rows)

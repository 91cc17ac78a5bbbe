"""Queries about mail."""

from typing import Any

import msgspec

from popug_cli.bus.context import Context
from popug_cli.kernel.errors import NotFound
from popug_cli.mail.rules import subject_of, summary_subject_of
from popug_cli.messages.base import page_bounds
from popug_cli.messages.mail import ListMails, MailDetails, MailKind, MailLine, Mails, ShowMail

SELECT_MAILS = (
    "SELECT mail.mail_id, coalesce(mail.sent_to, receiver.email, '') AS \"to\", mail.status, mail.attempts,"
    " mail.last_error, mail.business_date, mail.kind, mail.amount_cents, mail.held, mail.message_id, mail.queued_at,"
    " mail.due_at, mail.sent_at, mail.payload, coalesce(receiver.username, '') AS username"
    " FROM mail_outbox AS mail LEFT JOIN mail_receivers AS receiver ON receiver.user_id = mail.user_id"
)
SELECT_ALL_MAILS = f"{SELECT_MAILS} WHERE (CAST(:status AS TEXT) IS NULL OR mail.status = :status)"
SELECT_PAGE = f"{SELECT_ALL_MAILS} ORDER BY mail.mail_id LIMIT :limit OFFSET :offset"
SELECT_ONE_MAIL = f"{SELECT_MAILS} WHERE mail.mail_id = :mail_id"


def list_mails(message: ListMails, context: Context) -> Mails:
    """Return the mails, oldest first and at most ``MAX_ANSWER_ROWS``; only those of `message.status`, if given."""
    bounds = page_bounds(message.limit, message.offset)
    rows = context.connection.records(SELECT_PAGE, status=message.status, **bounds)
    return Mails([_line(row) for row in rows])


def show_mail(message: ShowMail, context: Context) -> MailDetails:
    """Return one mail with its text; raise ``mail_not_found``."""
    from popug_cli.mail.summary import content_of, text_of

    row = find(message.mail_id, context)
    content = content_of(row["kind"], row["payload"])
    return msgspec.convert(
        {**row, "subject": _subject(row), "text": text_of(content, row["username"], context.calendar)},
        MailDetails,
        strict=False,
    )


def line_of(mail_id: str, context: Context) -> MailLine:
    """Return one mail as it is listed; raise ``mail_not_found``."""
    return _line(find(mail_id, context))


def find(mail_id: str, context: Context) -> dict[str, Any]:
    """Return the row of one mail; raise ``mail_not_found``."""
    row = context.connection.record(SELECT_ONE_MAIL, mail_id=mail_id)
    if row is None:
        raise NotFound(
            "mail_not_found",
            f"There is no mail {mail_id}.",
            hint="Run `popug mail list` to see all mails.",
            details={"mail_id": mail_id},
        )
    return row


def _line(row: Any) -> MailLine:
    return msgspec.convert({**row, "subject": _subject(row)}, MailLine, strict=False)


def _subject(row: Any) -> str:
    subject = summary_subject_of if row["kind"] == MailKind.SUMMARY else subject_of
    return subject(row["amount_cents"], row["business_date"])

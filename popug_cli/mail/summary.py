"""The summary of a closed day: queue it for management and render it as a mail."""

from datetime import datetime

import msgspec

from popug_cli.bus.context import Context
from popug_cli.kernel.calendar import Calendar
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.money import format_cents
from popug_cli.kernel.stored_values import choice_of
from popug_cli.kernel.text import counted, escape_hidden
from popug_cli.mail import payslip
from popug_cli.mail.consumers import INSERT_MAIL
from popug_cli.mail.html import page
from popug_cli.mail.mime import RenderedMail, render
from popug_cli.mail.rules import message_id_of, summary_subject_of
from popug_cli.messages.analytics import MostExpensiveTask
from popug_cli.messages.base import ACCOUNTING, Role
from popug_cli.messages.billing import DayClosed, PayoutMade
from popug_cli.messages.mail import MailKind


class Summary(msgspec.Struct, frozen=True):
    """Content of a summary: the day's figures and its most expensive completed task."""

    figures: DayClosed
    dearest: MostExpensiveTask | None


def content_of(kind: str, payload: str) -> PayoutMade | Summary:
    """Decode the stored payload of a mail."""
    if kind == MailKind.SUMMARY:
        return msgspec.json.decode(payload, type=Summary)
    return payslip.decode_payout(payload)


def may_receive(role: Role, *, active: bool) -> bool:
    """Return whether a user with this role and activity may see the figures."""
    return active and role in ACCOUNTING


def due_days(context: Context) -> list[DayClosed]:
    """Return the closed days whose summaries are not queued yet, oldest first."""
    statement = "SELECT payload FROM mail_summaries WHERE queued = 0 ORDER BY business_date"
    return [msgspec.json.decode(payload, type=DayClosed) for payload in context.connection.column(statement)]


def recipients(context: Context) -> list[str]:
    """Return the ids of the users who receive summaries."""
    rows = context.connection.select("SELECT user_id, role, active FROM mail_receivers ORDER BY user_id")
    return [user_id for user_id, role, active in rows if may_receive(choice_of(Role, role), active=bool(active))]


def enqueue(summary: Summary, context: Context) -> None:
    """Queue a day's summary once for each recipient."""
    day, payload, now = summary.figures.business_date.isoformat(), msgspec.json.encode(summary).decode(), context.now
    mails = []
    for user_id in recipients(context):
        mail_id, income_cents = context.events.new_id(), summary.figures.income_cents
        about = (message_id_of(mail_id), user_id, day, MailKind.SUMMARY, income_cents, payload, None)
        mails.append((mail_id, *about, to_rfc3339(now), to_rfc3339(now)))
    context.connection.insert_many(INSERT_MAIL, mails)
    context.connection.insert_many("UPDATE mail_summaries SET queued = 1 WHERE business_date = ?", [(day,)])


def message_of(
    summary: Summary, *, username: str, to: str, sender: str, message_id: str, queued_at: datetime, calendar: Calendar
) -> RenderedMail:
    """Render the summary; the same arguments give the same bytes.

    Raise ``ValueError`` if the receiver's address is not valid.
    """
    figures = summary.figures
    return render(
        username=username,
        to=to,
        sender=sender,
        message_id=message_id,
        date=calendar.local(queued_at),
        subject=summary_subject_of(figures.income_cents, figures.business_date),
        text=text_of(summary, username, calendar),
        html=_html_of(summary, username),
    )


def text_of(content: PayoutMade | Summary, username: str, calendar: Calendar) -> str:
    """Return a payslip or a summary as plain text."""
    if isinstance(content, PayoutMade):
        return payslip.text_of(content, username, calendar)
    rows = _rows(content)
    names, values = max(len(name) for name, _, _ in rows), max(len(value) for _, value, _ in rows)
    lines = [f"  {name:<{names}}  {value:>{values}}  {more}".rstrip() for name, value, more in rows]
    return (
        "\n".join([_first_line(content), "", f"Hello {escape_hidden(username)}, this was the day:", "", *lines]) + "\n"
    )


def _html_of(summary: Summary, username: str) -> str:
    figures = summary.figures
    return page(
        "summary.html.j2",
        rows=_rows(summary),
        subject=summary_subject_of(figures.income_cents, figures.business_date),
        username=escape_hidden(username),
        day=figures.business_date.isoformat(),
        income=format_cents(figures.income_cents),
    )


def _first_line(summary: Summary) -> str:
    return f"Management's income of {summary.figures.business_date} is {format_cents(summary.figures.income_cents)}."


def _rows(summary: Summary) -> list[tuple[str, str, str]]:
    """Return the rows of the table: name, value, remark."""
    figures, top_task = summary.figures, summary.dearest
    task = f"#{top_task.task.number} {escape_hidden(top_task.task.title)}" if top_task else "nothing was completed"
    return [
        ("fees", format_cents(figures.fees_cents), ""),
        ("rewards", format_cents(-figures.rewards_cents), ""),
        ("income", format_cents(figures.income_cents), ""),
        ("paid out", format_cents(figures.payouts_cents), f"to {_people(figures.paid_count)}"),
        ("in the red", str(figures.in_red_count), _people(figures.in_red_count).partition(" ")[2]),
        ("most expensive task", format_cents(top_task.reward_cents) if top_task else "", task),
    ]


def _people(count: int) -> str:
    return counted(count, "person", "people")

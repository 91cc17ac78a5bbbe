"""Commands for payout mail: list, show, send, retry."""

from collections.abc import Iterator
from typing import Annotated

import typer

from popug_cli.cli.context import CommandContext, command
from popug_cli.cli.output.blocks import Block, Column, Hint, Table
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.money import format_cents
from popug_cli.kernel.text import counted
from popug_cli.messages.mail import (
    ListMails,
    MailDetails,
    MailLine,
    MailRunResult,
    Mails,
    MailStatus,
    RetryAllMails,
    RetryMail,
    SendMail,
    ShowMail,
)

MailIdArgument = Annotated[str, typer.Argument(metavar="ID", help="The mail's id, from `popug mail list`.")]

mail = typer.Typer(help="Show and send payout mail.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.add_typer(mail, name="mail")


@command(mail, "list")
def list_(
    context: CommandContext,
    status: Annotated[MailStatus | None, typer.Option("--status", help="Only mails with this status.")] = None,
) -> None:
    """List payout mails, oldest first."""
    mails = context.backends.perform(ListMails(status=status))
    context.screen.show(mails, lambda: [_mail_table(mails)])


@command(mail, "show")
def show(context: CommandContext, mail_id: MailIdArgument) -> None:
    """Show one payout mail with its text."""
    mail = context.backends.perform(ShowMail(mail_id=mail_id))
    context.screen.show(mail, lambda: _detail_lines(context, mail))


@command(mail, "send")
def send(
    context: CommandContext,
    yes: Annotated[bool, typer.Option("--yes", help="Also send mail that a restore held back.")] = False,
) -> None:
    """Send all queued payout mail."""
    result = context.backends.perform(SendMail(release=yes))
    if result.held:
        context.screen.confirm(
            f"{_count_with_verb(result.held)} held back since a restore and may have been sent before. Send now?",
            yes=yes,
        )
        released = context.backends.perform(SendMail(release=True))
        result = MailRunResult(
            result.sent + released.sent, released.queued, result.failed + released.failed, released.held
        )
    context.screen.show(result, lambda: _run_result_lines(result))


@command(mail, "retry")
def retry(
    context: CommandContext,
    mail_id: Annotated[str | None, typer.Argument(metavar="ID", help="The mail's id, from `popug mail list`.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Queue all failed mails.")] = False,
) -> None:
    """Queue a failed mail again, or all."""
    if (mail_id is None) != all_:
        raise InvalidInput("usage", "Name one mail, or give --all.", hint="Run `popug mail list` for the ids.")
    if mail_id is None:
        answer = context.backends.perform(RetryAllMails())
        context.screen.show(answer, lambda: [f"{_count_with_verb(answer.requeued)} queued again."])
        return
    mail = context.backends.perform(RetryMail(mail_id=mail_id))
    context.screen.show(
        mail, lambda: [f"The mail to {mail.to} is {mail.status}.", Hint("Run `popug mail send` to send it.")]
    )


def _mail_table(mails: Mails) -> Table:
    has_errors = any(mail.last_error for mail in mails.mails)
    columns = [
        Column("id"),
        Column("day", drop_priority=2),
        Column("to", shrinks=True),
        Column("sum", align_right=True, drop_priority=1 if has_errors else 0),
        Column("status"),
        Column("tries", align_right=True, drop_priority=3),
        *([Column("last error", shrinks=True, style="dim")] if has_errors else []),
    ]
    rows = [_row(mail)[: len(columns)] for mail in mails.mails]
    return Table(columns, rows, empty="There are no such mails.")


def _row(mail: MailLine) -> list[str]:
    return [
        mail.mail_id,
        str(mail.business_date),
        mail.to,
        format_cents(mail.amount_cents),
        _status_text(mail),
        str(mail.attempts),
        mail.last_error or "",
    ]


def _status_text(mail: MailLine) -> str:
    return f"{mail.status} (held)" if mail.held and mail.status is MailStatus.QUEUED else str(mail.status)


def _detail_lines(context: CommandContext, mail: MailDetails) -> Iterator[Block]:
    yield f"To          {mail.to}"
    yield f"Subject     {mail.subject}"
    yield f"Message-ID  {mail.message_id}"
    yield f"Status      {_status_text(mail)}, tried {counted(mail.attempts, 'time')}"
    if mail.sent_at:
        yield f"Sent        {context.screen.local_time(mail.sent_at)}"
    if mail.last_error:
        yield f"Last error  {mail.last_error}"
    yield ""
    yield mail.text.rstrip("\n")


def _run_result_lines(result: MailRunResult) -> Iterator[Block]:
    yield f"{_count_with_verb(result.sent)} sent, {result.queued} still to be sent."
    if result.failed:
        yield f"{_count_with_verb(result.failed)} rejected permanently."
        yield Hint("Run `popug mail list --status failed` for the reasons, `popug mail retry --all` to try again.")


def _count_with_verb(count: int) -> str:
    """Return the number of mails as the beginning of a sentence: ``1 mail was``, ``3 mails were``."""
    return counted(count, "mail was", "mails were")

"""Commands: mail."""

from collections.abc import Iterator
from typing import Annotated

import typer

from popug_cli.cli.blocks import Block, Column, Hint, Table
from popug_cli.cli.face import Face, command
from popug_cli.kernel.money import format_cents
from popug_cli.messages.mail import (
    ListMails,
    MailDetails,
    MailLine,
    MailRun,
    Mails,
    MailStatus,
    RetryMail,
    SendMail,
    ShowMail,
)

MailIdArgument = Annotated[str, typer.Argument(metavar="ID", help="The mail's id, from `popug mail list`.")]

mail = typer.Typer(help="See and send payout mail.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.add_typer(mail, name="mail")


@command(mail, "list")
def list_(
    face: Face,
    status: Annotated[MailStatus | None, typer.Option("--status", help="Only mails that stand there.")] = None,
) -> None:
    """List payout mails, oldest first."""
    mails = face.perform(ListMails(status=status))
    face.show(mails, lambda: [_table(mails)])


@command(mail, "show")
def show(face: Face, mail_id: MailIdArgument) -> None:
    """Show one payout mail with its text."""
    mail = face.perform(ShowMail(mail_id=mail_id))
    face.show(mail, lambda: _details(face, mail))


@command(mail, "send")
def send(
    face: Face,
    yes: Annotated[bool, typer.Option("--yes", help="Send also what was held back by a restore.")] = False,
) -> None:
    """Send all payout mail that is queued."""
    run = face.perform(SendMail(release=yes))
    if run.held:
        face.confirm(f"{_mails(run.held)} held back since a restore and may have been sent before. Send now?", yes=yes)
        released = face.perform(SendMail(release=True))
        run = MailRun(run.sent + released.sent, released.queued, run.failed + released.failed, released.held)
    face.show(run, lambda: _run(run))


@command(mail, "retry")
def retry(face: Face, mail_id: MailIdArgument) -> None:
    """Queue a failed mail again."""
    mail = face.perform(RetryMail(mail_id=mail_id))
    face.show(mail, lambda: [f"The mail to {mail.to} is {mail.status}.", Hint("Run `popug mail send` to send it.")])


def _table(mails: Mails) -> Table:
    failed = any(mail.last_error for mail in mails.mails)
    columns = [
        Column("id"),
        Column("day", spare=2),
        Column("to", flexible=True),
        Column("sum", right=True, spare=1 if failed else 0),
        Column("status"),
        Column("tries", right=True, spare=3),
        *([Column("last error", flexible=True, style="dim")] if failed else []),
    ]
    rows = [_row(mail)[: len(columns)] for mail in mails.mails]
    return Table(columns, rows, empty="There are no such mails.")


def _row(mail: MailLine) -> list[str]:
    return [
        mail.mail_id,
        str(mail.business_date),
        mail.to,
        format_cents(mail.amount_cents),
        _status(mail),
        str(mail.attempts),
        mail.last_error or "",
    ]


def _status(mail: MailLine) -> str:
    return f"{mail.status} (held)" if mail.held and mail.status is MailStatus.QUEUED else str(mail.status)


def _details(face: Face, mail: MailDetails) -> Iterator[Block]:
    yield f"To          {mail.to}"
    yield f"Subject     {mail.subject}"
    yield f"Message-ID  {mail.message_id}"
    yield f"Status      {_status(mail)}, tried {mail.attempts} time{'' if mail.attempts == 1 else 's'}"
    if mail.sent_at:
        yield f"Sent        {face.local_time(mail.sent_at)}"
    if mail.last_error:
        yield f"Last error  {mail.last_error}"
    yield ""
    yield mail.text.rstrip("\n")


def _run(run: MailRun) -> Iterator[Block]:
    yield f"{_mails(run.sent)} sent, {run.queued} still to be sent."
    if run.failed:
        yield f"{_mails(run.failed)} refused for good."
        yield Hint("Run `popug mail list --status failed` for the reasons, `popug mail retry ID` to try again.")


def _mails(count: int) -> str:
    return f"{count} mail was" if count == 1 else f"{count} mails were"

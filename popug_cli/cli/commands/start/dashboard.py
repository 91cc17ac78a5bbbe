"""The command that shows the company live, in full screen."""

import io
import os
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import typer

from popug_cli.cli.commands.money import accounts, analytics
from popug_cli.cli.commands.start import today
from popug_cli.cli.context import CommandContext, add_commands, command
from popug_cli.cli.output.printer import Printer
from popug_cli.kernel.errors import Unavailable
from popug_cli.messages.analytics import GetAnalytics
from popug_cli.messages.base import DECLARATIONS, Message
from popug_cli.messages.billing import GetIncome, GetStatement
from popug_cli.messages.identity import User, WhoAmI
from popug_cli.messages.today import ShowToday
from popug_cli.platform.file_id import file_id

if TYPE_CHECKING:
    from popug_cli.dashboard.worker import Company

Answer = TypeVar("Answer")

commands = typer.Typer()


def register(program: typer.Typer) -> None:
    """Add the command to the program."""
    add_commands(program, commands)


@command(commands, "dashboard")
def dashboard(context: CommandContext) -> None:
    """Show tasks, money and analytics live, in full screen; press q to quit.

    Without a terminal, or with --plain or --json, show them once.
    """
    user = context.backends.perform(WhoAmI())
    if context.as_json or not _is_live(context.printer):
        _show_once(context, user)
        return
    try:
        from popug_cli.dashboard import app
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise Unavailable(
            "dashboard_unavailable",
            f"popug dashboard needs a package that is not installed ({missing}).",
            hint="Install popug with its extra: pip install 'popug[tui]'. `popug today` works without it.",
        ) from error
    app.run(_dashboard_company(context, user))


def _is_live(printer: Printer) -> bool:
    """Return whether all standard streams are terminals that can draw, and the output is not plain."""
    is_terminal = all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
    return is_terminal and not printer.plain and os.environ.get("TERM") not in {None, "", "dumb", "unknown"}


def _dashboard_company(context: CommandContext, user: User) -> "Company":
    """Return the company for the dashboard, which shows warnings itself; a buffer collects them for it."""
    from popug_cli.dashboard.worker import Company

    buffer = io.StringIO()
    options = msgspec.structs.replace(context.options, printer=Printer(out=buffer, err=buffer, plain=True))
    quiet_context = CommandContext(options, as_json=False, command_path=context.command_path)
    calendar, only_ascii = quiet_context.backends.active.calendar, context.printer.only_ascii
    return Company(
        ReconnectingBackend(quiet_context), user, calendar, today.describe, partial(_drain_warnings, buffer), only_ascii
    )


@dataclass
class ReconnectingBackend:
    """Performs messages, in spite of servers that start or stop and backups that are restored."""

    context: CommandContext
    database_id: tuple[int, int] | None = None

    def __call__(self, message: Message[Answer], /) -> Answer:
        """Perform a message; raise a ``PopugError`` if it is refused.

        After ``Unavailable``, the next message looks for a server again.
        """
        if self.context.backends.remote is None:
            self._reopen_if_replaced()
        try:
            return self.context.backends.perform(message)
        except Unavailable:
            self.context.backends.forget_remote()
            raise

    def _reopen_if_replaced(self) -> None:
        """Close the database if a restore has replaced its file; the next message opens the new file."""
        opened_id, self.database_id = self.database_id, file_id(self.context.home.database)
        if opened_id not in {None, self.database_id}:
            self.context.backends.local.close()


def _drain_warnings(buffer: io.StringIO) -> list[str]:
    """Return the lines written to the buffer since the last call."""
    lines = buffer.getvalue().splitlines()
    buffer.seek(0)
    buffer.truncate()
    return lines


def _show_once(context: CommandContext, user: User) -> None:
    """Show the views that the user's role may see, one after the other as text, or as one JSON document."""
    if context.as_json:
        messages: dict[str, Message[Any]] = {
            "today": ShowToday(),
            "statement": GetStatement(),
            "income": GetIncome(),
            "analytics": GetAnalytics(),
        }
        allowed = {name: message for name, message in messages.items() if _may_send(user, message)}
        context.printer.document({name: context.backends.perform(message) for name, message in allowed.items()})
        return
    today.show_day(context, peek=True)
    if _may_send(user, GetIncome()):
        accounts.income(context)
    if _may_send(user, GetAnalytics()):
        analytics.analytics(context)


def _may_send(user: User, message: Message[Any]) -> bool:
    return user.role in DECLARATIONS[type(message)].roles

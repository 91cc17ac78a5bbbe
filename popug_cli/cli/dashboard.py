"""The command that shows the company live, on the whole terminal."""

import io
import os
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import typer

from popug_cli.cli import analytics, money, today
from popug_cli.cli.face import Face, command
from popug_cli.cli.render import Printer
from popug_cli.kernel.errors import Unavailable
from popug_cli.messages.analytics import GetAnalytics
from popug_cli.messages.base import DECLARATIONS, Message
from popug_cli.messages.billing import GetIncome, GetStatement
from popug_cli.messages.identity import User, WhoAmI
from popug_cli.messages.today import ShowToday

if TYPE_CHECKING:
    from popug_cli.dashboard.desk import Company

Answer = TypeVar("Answer")


def register(program: typer.Typer) -> None:
    """Add the command to the program."""
    command(program, "dashboard", panel="Start here")(dashboard)


def dashboard(face: Face) -> None:
    """Show tasks, money and analytics live, on the whole terminal; q ends it. Without a terminal, show them once."""
    user = face.perform(WhoAmI())
    if face.as_json or not _is_live(face.printer):
        _show_once(face, user)
        return
    try:
        from popug_cli.dashboard import application
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise Unavailable(
            "dashboard_unavailable",
            f"popug dashboard needs a package that is not installed ({missing}).",
            hint="Install popug with its extra: pip install 'popug[tui]'. `popug today` does without.",
        ) from error
    application.run(_company(face, user))


def _is_live(printer: Printer) -> bool:
    """Whether there is a terminal that can be drawn on, with somebody at it who sees it."""
    is_terminal = all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
    return is_terminal and not printer.plain and os.environ.get("TERM") not in {None, "", "dumb", "unknown"}


def _company(face: Face, user: User) -> "Company":
    """The company as the application sees it; what is said beside answers is shown by it, not printed."""
    from popug_cli.dashboard.desk import Company

    said = io.StringIO()
    chosen = msgspec.structs.replace(face.chosen, printer=Printer(out=said, err=said, plain=True))
    quiet = Face(face.home, False, chosen, face.words)

    def perform(message: Message[Answer]) -> Answer:
        try:
            return quiet.perform(message)
        except Unavailable:
            vars(quiet).pop("server", None)  # another may hold the home by the next time, or nobody
            raise

    def warnings() -> list[str]:
        told = said.getvalue().splitlines()
        said.seek(0)
        said.truncate()
        return told

    return Company(perform, user, face.place.calendar, today.told, warnings, face.printer.only_ascii)


def _show_once(face: Face, user: User) -> None:
    """The views one after the other, as text or as one document."""
    if face.as_json:
        asked: dict[str, Message[Any]] = {
            "today": ShowToday(),
            "statement": GetStatement(),
            "income": GetIncome(),
            "analytics": GetAnalytics(),
        }
        seen = {name: message for name, message in asked.items() if _may(user, message)}
        face.printer.document({name: face.perform(message) for name, message in seen.items()})
        return
    today.show_day(face, peek=True)
    if _may(user, GetIncome()):
        money.income(face)
    if _may(user, GetAnalytics()):
        analytics.analytics(face)


def _may(user: User, message: Message[Any]) -> bool:
    return user.role in DECLARATIONS[type(message)].roles

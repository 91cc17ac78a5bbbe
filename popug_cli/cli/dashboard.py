"""The command that shows the company live, on the whole terminal."""

import io
import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import typer

from popug_cli.cli import analytics, money, today
from popug_cli.cli.face import Face, add_commands, command
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

commands = typer.Typer()


def register(program: typer.Typer) -> None:
    """Add the command to the program."""
    add_commands(program, commands)


@command(commands, "dashboard")
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
    calendar, only_ascii = quiet.place.calendar, face.printer.only_ascii
    return Company(WayIn(quiet), user, calendar, today.told, partial(_taken, said), only_ascii)


@dataclass
class WayIn:
    """Performs messages for as long as somebody looks, while servers come and go and backups are restored."""

    face: Face
    database: tuple[int, int] | None = None

    def __call__(self, message: Message[Answer], /) -> Answer:
        """Perform a message; raises a ``PopugError`` for every refusal."""
        if self.face.server is None:
            self._see_which_file()
        try:
            return self.face.perform(message)
        except Unavailable:
            vars(self.face).pop("server", None)  # by the next time another may hold the home, or nobody
            raise

    def _see_which_file(self) -> None:
        """A restore puts another file in the place of the one that is open."""
        before, self.database = self.database, _identity(self.face.home.database)
        if before not in {None, self.database}:
            self.face.here.close()


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _taken(said: io.StringIO) -> list[str]:
    """The lines that were written there since this was last asked."""
    lines = said.getvalue().splitlines()
    said.seek(0)
    said.truncate()
    return lines


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

"""What every command has in common: its options, its way to ``perform``, its way to the printer."""

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import msgspec
import typer

from popug_cli.cli.help.surface import surface
from popug_cli.cli.output.blocks import Block, Hint
from popug_cli.cli.output.printer import Printer
from popug_cli.cli.output.relative_time import when
from popug_cli.cli.state import session_file
from popug_cli.kernel.errors import InvalidInput, NotAuthenticated, NotFound
from popug_cli.kernel.home import Home, find_home
from popug_cli.messages.base import DECLARATIONS, Access, Message

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend
    from popug_cli.cli.output.progress import Bar
    from popug_cli.client.remote_backend import RemoteBackend
    from popug_cli.kernel.progress import Progress
    from popug_cli.messages.backend import Backend

Answer = TypeVar("Answer")
Line = TypeVar("Line")
PROGRESS_EVERY = 1_000

HomeOption = Annotated[Path | None, typer.Option("--home", metavar="DIR", help="The company's directory.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer with one JSON document.")]
PlainOption = Annotated[
    bool,
    typer.Option("--plain", help="No boxes, no colour, no pictures; one record a line (or POPUG_PLAIN=1)."),
]
ServerOption = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="The company's server (or POPUG_SERVER)."),
]
COMMON_OPTIONS: dict[str, tuple[Any, Any]] = {  # of every command: annotation and default, by parameter
    "as_json": (JsonOption, False),
    "plain": (PlainOption, False),
    "home": (HomeOption, None),
    "server": (ServerOption, None),
}


class GlobalOptions(msgspec.Struct):
    """Options given before the command, and what a program that runs commands itself (the demo) brings along."""

    home: Path | None = None
    as_json: bool = False
    token: str | None = None
    backend: Any = None
    printer: Printer = msgspec.field(default_factory=Printer)
    server: str | None = None


class AnswerFields(dict[str, Any]):
    """The fields of an answer, by name."""

    def __init__(self, answer: Any) -> None:
        super().__init__(answer if isinstance(answer, dict) else {})
        self._answer = answer

    def __missing__(self, name: str) -> Any:
        return getattr(self._answer, name)


class CommandContext:
    """One command's way to the core and back."""

    def __init__(self, home: Home, as_json: bool, options: GlobalOptions | None = None, command_path: str = "") -> None:
        self.home = home
        self.as_json = as_json
        self.options = options or GlobalOptions()
        self.command_path = command_path

    @property
    def printer(self) -> Printer:
        """What prints."""
        return self.options.printer

    @cached_property
    def local(self) -> "LocalBackend":
        """The home in this process, where the operator's messages are performed."""
        from popug_cli.app.local_backend import LocalBackend

        return self.options.backend or LocalBackend(self.home, warn=self.printer.warn, progress=self.progress)

    @cached_property
    def server(self) -> "RemoteBackend | None":
        """The server that was chosen, else the one that holds the home, if any."""
        from popug_cli.client.discovery import connect_to_url, find_local_server

        if self.options.backend:
            return None
        if url := self.server_url:
            return connect_to_url(url, self.printer.warn, self.progress)
        return find_local_server(self.home, self.printer.warn, self.progress)

    @property
    def server_url(self) -> str | None:
        """The server that was chosen by ``--server`` or ``POPUG_SERVER``."""
        return self.options.server or os.environ.get("POPUG_SERVER")

    @property
    def backend(self) -> "Backend":
        """Where messages are performed that are not the operator's."""
        return self.server or self.local

    @property
    def session_key(self) -> Home | str:
        """What one is logged in to: the home, or the address of a server that was chosen."""
        server = self.server if self.server_url else None
        return server.address.url if server else self.home

    def perform(self, message: Message[Answer], *, token: str | None = None) -> Answer:
        """Perform a message as whoever is logged in, or as the holder of a token."""
        if DECLARATIONS[type(message)].access is Access.OPERATOR:
            self._warn_about_server()
            return self.local.perform(message)
        try:
            return self.backend.perform(message, token or self.token)
        except NotFound as error:
            if error.code != "user_not_found" or self.server_url:
                raise
            from popug_cli.cli.help.suggestions import suggest_people

            raise suggest_people(error, self.home, token or self.token) from error
        except NotAuthenticated as error:
            error.hint = self._hint_with_server(error.hint)
            raise

    @property
    def token(self) -> str | None:
        """The token of whoever is logged in."""
        return self.options.token or session_file.token_for(self.session_key)

    def show(
        self, answer: Any, blocks: Callable[[], Iterable[Block]], *, paged: bool = False, next_step: str | None = None
    ) -> None:
        """Print the answer: as JSON, or as sentences and tables, by the pager if they may be long.

        ``next_step`` is the next step where it is another than usual.
        """
        if self.as_json:
            self.printer.document(answer)
        elif paged:
            self.printer.pages(blocks())
        else:
            self.printer.blocks(blocks())
            self.printer.blocks(self._next_step(answer, next_step))

    def local_time(self, instant: datetime) -> str:
        """An instant as the company's clocks show it, to the minute; in UTC at the ends of the calendar."""
        with suppress(OverflowError):
            instant = self.backend.calendar.local(instant)
        return f"{instant:%Y-%m-%d %H:%M}"

    def when(self, instant: datetime) -> str:
        """An instant as one speaks of it now: ``5 min ago``, ``yesterday 14:05``."""
        return when(instant, self.backend.now(), self.backend.calendar)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before something that cannot be undone; raises ``needs_yes`` where nobody can be asked."""
        if yes:
            return
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise InvalidInput("needs_yes", question, hint="Give --yes to say that you mean it.")
        self.printer.ask(f"{question} [y/N]")
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise InvalidInput("needs_yes", "Nothing was done.", hint="Answer y, or give --yes.")

    def _next_step(self, answer: Any, next_step: str | None) -> Iterator[Block]:
        command = surface().commands.get(self.command_path)
        default = command.then.format_map(AnswerFields(answer)) if command and command.then else ""
        if step := default if next_step is None else next_step:
            yield Hint(f"Next: {step}")

    def _hint_with_server(self, hint: str) -> str:
        """A hint to log in, for the server that was named."""
        server = self.options.server
        return hint.replace("popug login NAME", f"popug login NAME --server {server}") if server else hint

    def _warn_about_server(self) -> None:
        """The operator works on the home's own files; whoever names a server has to know that."""
        if self.options.server and not self.as_json:
            self.printer.warn(f"This works on the home {self.home.root} of this machine, never over a server.")

    @cached_property
    def progress(self) -> "Progress":
        """A bar where people look on, else silence."""
        from popug_cli.kernel.progress import no_progress

        return self._bar or no_progress

    @cached_property
    def _bar(self) -> "Bar | None":
        from popug_cli.cli.output.progress import Bar

        return Bar(self.printer.err) if self.printer.err.isatty() and not self.printer.plain else None

    def with_progress(self, label: str, lines: Iterable[Line]) -> Iterator[Line]:
        """What goes into a file, with a pulse while it is made."""
        for done, line in enumerate(lines, start=1):
            if done % PROGRESS_EVERY == 0:
                self.progress(label, done, 0)
            yield line
        self.progress(label, 1, 1)

    def close(self) -> None:
        """Leave the terminal as it was found, however a command ended."""
        if self._bar:
            self._bar.end()


def command(group: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command: its first parameter, the face, becomes the options that all have."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        group.command(name)(_with_context(function))
        return function

    return register


def add_commands(program: typer.Typer, commands: typer.Typer) -> None:
    """Add the commands of one file to the program, in their order."""
    program.registered_commands += commands.registered_commands


def group_command(group: typer.Typer) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as what a group does where none of its commands is named."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        group.callback(invoke_without_command=True)(_with_context(function))
        return function

    return register


def _with_context(function: Callable[..., None]) -> Callable[..., None]:
    own_parameters = [*inspect.signature(function).parameters.values()][1:]
    hints = get_type_hints(function, include_extras=True)

    @wraps(function)
    def run(
        *, context: typer.Context, home: Path | None, as_json: bool, plain: bool, server: str | None, **arguments: Any
    ) -> None:
        options: GlobalOptions = context.obj or GlobalOptions()
        options.home = home or options.home
        options.server = server or options.server
        options.printer.plain = plain or options.printer.plain
        as_json = as_json or options.as_json
        if context.invoked_subcommand is None:
            command_path = context.command_path.partition(" ")[2]
            command_context = CommandContext(find_home(options.home), as_json, options, command_path)
            try:
                function(command_context, **arguments)
            finally:
                command_context.close()
        else:
            options.as_json = as_json

    common = [
        inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
        *(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=option)
            for name, (option, default) in COMMON_OPTIONS.items()
        ),
    ]
    parameters = [
        p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY) for p in own_parameters
    ] + common
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    del run.__wrapped__  # else Typer reads the annotations of the function inside
    return run

"""The context of a command: the common options, its backends and its screen."""

import inspect
from collections.abc import Callable
from functools import cached_property, wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import msgspec
import typer

from popug_cli.cli.backends import Backends
from popug_cli.cli.output.printer import Printer
from popug_cli.cli.output.screen import Screen
from popug_cli.kernel.home import Home, find_home

HomeOption = Annotated[
    Path | None, typer.Option("--home", metavar="DIR", readable=False, help="The company's directory.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer with one JSON document.")]
PlainOption = Annotated[
    bool,
    typer.Option("--plain", help="No boxes, no colour, no charts; one record a line (or POPUG_PLAIN=1)."),
]
ServerOption = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="The company's server (or POPUG_SERVER)."),
]
COMMON_OPTIONS: dict[str, tuple[Any, Any]] = {  # of every command: annotation and default, by parameter name
    "as_json": (JsonOption, False),
    "plain": (PlainOption, False),
    "home": (HomeOption, None),
    "server": (ServerOption, None),
}


class GlobalOptions(msgspec.Struct):
    """The common options, given before the command or after it.

    A program that runs commands itself, such as the demo, also sets ``token``, ``backend`` and ``printer``.
    """

    home: Path | None = None
    as_json: bool = False
    token: str | None = None
    backend: Any = None
    printer: Printer = msgspec.field(default_factory=Printer)
    server: str | None = None


class CommandContext:
    """The home, the options, the backends and the screen of one command."""

    def __init__(self, options: GlobalOptions, *, as_json: bool, command_path: str = "") -> None:
        self.options = options
        self.as_json = as_json
        self.command_path = command_path
        self.printer = self.options.printer
        self.screen = Screen(
            self.printer,
            lambda: self.backends.active,
            as_json=self.as_json,
            command_path=self.command_path,
            may_continue=lambda: not self.backends.has_scoped_token,
        )
        self.backends = Backends(
            lambda: self.home,
            self.screen,
            server=self.options.server,
            token=self.options.token,
            given_backend=self.options.backend,
        )

    @cached_property
    def home(self) -> Home:
        """The home of the company on this machine; raise ``no_home_directory``.

        A command that needs none works for an account without a home directory.
        """
        return find_home(self.options.home)


def command(group: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that registers a function as a command.

    The command takes the common options, from which the function's ``context`` is made, and the function's other
    parameters.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        group.command(name)(_with_context(function))
        return function

    return register


def add_commands(program: typer.Typer, commands: typer.Typer) -> None:
    """Add the commands of one file to the program, in their order."""
    program.registered_commands += commands.registered_commands


def group_command(group: typer.Typer) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that registers a function to run if a group is called without one of its commands."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        group.callback(invoke_without_command=True)(_with_context(function))
        return function

    return register


def _with_context(function: Callable[..., None]) -> Callable[..., None]:
    """Return the function that Typer calls.

    The function of a group only passes the common options on if one of the group's commands follows.
    """
    own_parameters = [*inspect.signature(function).parameters.values()][1:]
    type_hints = get_type_hints(function, include_extras=True)

    @wraps(function)
    def run_with_context(
        *, context: typer.Context, home: Path | None, as_json: bool, plain: bool, server: str | None, **arguments: Any
    ) -> None:
        options: GlobalOptions = context.obj or GlobalOptions()
        options.home = home or options.home
        options.server = server or options.server
        options.printer.plain = plain or options.printer.plain
        as_json = as_json or options.as_json
        if context.invoked_subcommand is None:
            command_path = context.command_path.partition(" ")[2]
            command_context = CommandContext(options, as_json=as_json, command_path=command_path)
            try:
                function(command_context, **arguments)
            finally:
                command_context.screen.close()
                command_context.backends.close()
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
        parameter.replace(annotation=type_hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in own_parameters
    ] + common
    run_with_context.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run_with_context.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del run_with_context.__wrapped__  # else Typer reads the annotations of the wrapped function
    return run_with_context

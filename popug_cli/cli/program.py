"""The commands as one Typer program: all of them, or only those of one file, which load faster."""

from importlib import import_module
from typing import Annotated, Any

import typer

from popug_cli.cli.context import CommandContext, GlobalOptions, HomeOption, JsonOption, PlainOption, ServerOption
from popug_cli.cli.help import shell_scripts
from popug_cli.cli.output.printer import Printer
from popug_cli.cli.version import version_line
from popug_cli.kernel.home import find_home

FILES = (
    "commands.people.auth",
    "commands.start.today",
    "commands.start.dashboard",
    "commands.tasks.task",
    "commands.tasks.tasks",
    "commands.money.accounts",
    "commands.operations.scheduler",
    "commands.operations.serve",
    "commands.operations.hooks",
    "commands.money.ledger",
    "commands.money.explain",
    "commands.money.analytics",
    "commands.people.user",
    "commands.people.token",
    "commands.money.mail",
    "commands.operations.events",
    "commands.operations.company",
    "commands.operations.backup",
    "commands.start.demo",
    "commands.start.man",
)


def build(only_file: str | None = None) -> Any:
    """Return the program as one click command.

    ``only_file`` is the entry of ``FILES`` whose commands are loaded; None loads all.
    """
    program = typer.Typer(
        name="popug",
        help="popug: chance assigns the chores, and every day is settled.",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    program.callback(invoke_without_command=True)(_run_without_command)
    for file in FILES if only_file is None else (only_file,):
        import_module(f"popug_cli.cli.{file}").register(program)
    return typer.main.get_command(program)


def _print_version(requested: bool) -> None:
    if requested:
        Printer().line(version_line())
        raise typer.Exit


def _print_completion_script(requested: bool) -> None:
    if requested:
        Printer().write(shell_scripts.script(None))
        raise typer.Exit


def _install_completion_script(requested: bool) -> None:
    if requested:
        Printer().line(shell_scripts.install(None))
        raise typer.Exit


def _run_without_command(
    context: typer.Context,
    as_json: JsonOption = False,
    plain: PlainOption = False,
    home: HomeOption = None,
    server: ServerOption = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
    show_completion: Annotated[
        bool,
        typer.Option(
            "--show-completion",
            help="Print the script for shell completion: --show-completion bash, zsh or fish.",
            is_eager=True,
            callback=_print_completion_script,
        ),
    ] = False,
    install_completion: Annotated[
        bool,
        typer.Option(
            "--install-completion",
            help="Install shell completion: --install-completion bash, zsh or fish.",
            is_eager=True,
            callback=_install_completion_script,
        ),
    ] = False,
) -> None:
    context.obj = context.obj or GlobalOptions(home, as_json, server=server)
    if plain:
        context.obj.printer.plain = True
    if context.invoked_subcommand is None:
        from popug_cli.cli.commands.start.welcome import welcome

        welcome(CommandContext(find_home(context.obj.home), context.obj.as_json, context.obj))

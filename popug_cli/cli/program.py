"""The commands as one Typer program. A command's file is imported only when the command is needed."""

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from popug_cli.cli.context import CommandContext, GlobalOptions, HomeOption, JsonOption, PlainOption, ServerOption
from popug_cli.cli.help import shell_scripts
from popug_cli.cli.output.printer import Printer
from popug_cli.cli.version import version_line

COMMANDS = {  # the first word of each command, and the file that defines it
    "init": "people.auth",
    "login": "people.auth",
    "logout": "people.auth",
    "whoami": "people.auth",
    "recover": "people.auth",
    "today": "start.today",
    "dashboard": "start.dashboard",
    "balance": "money.accounts",
    "statement": "money.accounts",
    "income": "money.accounts",
    "close-day": "money.accounts",
    "analytics": "money.analytics",
    "doctor": "operations.company",
    "permissions": "operations.company",
    "backup": "operations.backup",
    "restore": "operations.backup",
    "demo": "start.demo",
    "man": "start.man",
    "task": "tasks.task",
    "tasks": "tasks.tasks",
    "scheduler": "operations.scheduler",
    "serve": "operations.serve",
    "hooks": "operations.hooks",
    "ledger": "money.ledger",
    "explain": "money.explain",
    "user": "people.user",
    "token": "people.token",
    "mail": "money.mail",
    "events": "operations.events",
    "config": "operations.company",
    "database": "operations.database",
    "cluster": "operations.cluster",
}


class LazyGroup(TyperGroup):
    """Imports the file of a command when the command is looked up, as Click's "Lazily Loading Subcommands" shows."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the first words of all commands; load none."""
        return [*COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, or None. For an unknown word load all, because Typer suggests the nearest loaded ones."""
        if cmd_name not in self.commands:
            for file in [COMMANDS[cmd_name]] if cmd_name in COMMANDS else dict.fromkeys(COMMANDS.values()):
                commands = typer.Typer(rich_markup_mode=None)
                import_module(f"popug_cli.cli.commands.{file}").register(commands)
                self.commands.update(typer.main.get_group(commands).commands)
        return super().get_command(ctx, cmd_name)


def build() -> Any:
    """Return the program as one click command, which loads its commands when they are needed."""
    program = typer.Typer(
        name="popug",
        cls=LazyGroup,
        help="popug: chance assigns the chores, and every day is settled.",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    program.callback(invoke_without_command=True)(_apply_global_options)
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


def _apply_global_options(
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

        welcome(CommandContext(context.obj, as_json=context.obj.as_json))

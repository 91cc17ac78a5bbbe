"""Commands: backup, restore."""

from pathlib import Path
from typing import Annotated

import typer

from popug_cli.cli.context import CommandContext, add_commands, command
from popug_cli.cli.output.blocks import Hint
from popug_cli.messages.company import BackUp, Restore

commands = typer.Typer()


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    add_commands(program, commands)


@command(commands, "backup")
def backup(
    context: CommandContext,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A new file; one under the home's backups by default.")
    ] = None,
) -> None:
    """Copy database and settings, but no keys, into one file while others go on working; verified before it is told."""
    answer = context.backends.perform(BackUp(path=None if file is None else str(file)))
    context.screen.show(answer, lambda: [f"The backup is {answer.path} ({answer.bytes:,} bytes), verified."])


@command(commands, "restore")
def restore(
    context: CommandContext,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `popug backup` wrote.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
) -> None:
    """Put a backup in the place of the home, which is kept beside it; ends all logins and holds queued mail."""
    context.screen.confirm(f"This puts {file} in the place of the company in {context.home.root}.", yes=yes)
    answer = context.backends.perform(Restore(path=str(file)))
    old_home_note = [f"What was there before is kept in {answer.replaced}."] if answer.replaced else []
    hint = Hint("All must log in again. Queued mail is held: see `popug mail list`, then `popug mail send --yes`.")
    context.screen.show(answer, lambda: [f"The company of {file} lives in {answer.path} now.", *old_home_note, hint])

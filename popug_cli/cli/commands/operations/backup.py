"""Commands that back up and restore a company."""

from pathlib import Path
from typing import Annotated

import typer

from popug_cli.cli.context import CommandContext, add_commands, command
from popug_cli.cli.output.blocks import Hint
from popug_cli.messages.company import BackUp, Restore, SettingDifference

commands = typer.Typer()


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    add_commands(program, commands)


@command(commands, "backup")
def backup(
    context: CommandContext,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="A new file; by default one in the home's backups directory."),
    ] = None,
) -> None:
    """Copy database and settings, but no keys, into one file and verify it; other commands keep working."""
    answer = context.backends.perform(BackUp(path=None if file is None else str(file)))
    context.screen.show(answer, lambda: [f"Wrote the backup {answer.path} ({answer.bytes:,} bytes) and verified it."])


@command(commands, "restore")
def restore(
    context: CommandContext,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file written by `popug backup`.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    mail_settings: Annotated[
        bool, typer.Option("--mail-settings", help="Take the settings of mail from the backup, not from the home.")
    ] = False,
) -> None:
    """Replace the home with a backup and keep the old home next to it; revokes all tokens and holds queued mail."""
    context.screen.confirm(f"This replaces the company in {context.home.root} with {file}.", yes=yes)
    answer = context.backends.perform(Restore(path=str(file), take_mail_settings=mail_settings))
    old_home_note = [f"The old home is kept in {answer.replaced}."] if answer.replaced else []
    hint = Hint(
        "All users must log in again. Queued mail is held: see `popug mail list`, then `popug mail send --yes`."
    )
    context.screen.show(
        answer,
        lambda: [f"Restored {file} to {answer.path}.", *old_home_note, *_setting_notes(answer.settings), hint],
    )


def _setting_notes(differences: list[SettingDifference]) -> list[str]:
    """Return a sentence for each setting in which home and backup differ."""
    return [
        f"{difference.key} stays {_value(difference.home)}; the backup has {_value(difference.backup)}"
        " (`--mail-settings` takes that)."
        if difference.kept
        else f"{difference.key} is now {_value(difference.backup)}; it was {_value(difference.home)}."
        for difference in differences
    ]


def _value(value: str | int | bool | None) -> str:
    if value is None:
        return "the default"
    return str(value).lower() if isinstance(value, bool) else repr(value)

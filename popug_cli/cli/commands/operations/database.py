"""Commands for a company on PostgreSQL."""

from typing import Annotated

import typer

from popug_cli.cli.context import CommandContext, command
from popug_cli.cli.output.blocks import Hint
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.text import counted
from popug_cli.messages.company import CopyDatabase

group = typer.Typer(help="Move a company to PostgreSQL and back, and migrate it there.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.add_typer(group, name="database")


@command(group, "copy")
def copy(
    context: CommandContext,
    to: Annotated[
        str | None, typer.Option("--to", metavar="URL", help="An empty database that receives the home's company.")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="URL", help="A database whose company a new home receives.")
    ] = None,
) -> None:
    """Copy the home's company into an empty PostgreSQL database, or a PostgreSQL company into a new home."""
    if (to is None) == (from_ is None):
        raise InvalidInput("usage", "Give either --to URL or --from URL.", hint="Run `popug database copy --help`.")
    answer = context.backends.perform(CopyDatabase(to=to, source=from_))
    hint = (
        "The home's file stays as it was. Let its commands use the database: `popug config set database.url URL`."
        if to is not None
        else "The home has a key of its own: all users must log in again. Its mail is held, as after a restore."
    )
    context.screen.show(
        answer,
        lambda: [
            f"Copied {counted(answer.events, 'event')} to {answer.target}. The head of both logs is {answer.head}.",
            Hint(hint),
        ],
    )

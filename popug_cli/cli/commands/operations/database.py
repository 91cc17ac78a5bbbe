"""Commands for a company on PostgreSQL."""

from typing import Annotated

import typer

from popug_cli.cli.context import CommandContext, command
from popug_cli.cli.output.blocks import Hint
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.text import counted
from popug_cli.messages.company import CopyDatabase, DatabaseMigrated, MigrateDatabase

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


@command(group, "migrate")
def migrate(
    context: CommandContext,
    role: Annotated[
        str | None, typer.Option("--role", metavar="NAME", help="A role that gets the rights of the application.")
    ] = None,
) -> None:
    """Create or upgrade the tables of the PostgreSQL database, with the role that owns them."""
    answer = context.backends.perform(MigrateDatabase(role=role))
    context.screen.show(answer, lambda: [_migration_sentence(answer), *_role_sentences(role)])


def _migration_sentence(answer: DatabaseMigrated) -> str:
    place = f"{answer.database[:1].upper()}{answer.database[1:]}"
    if answer.before == answer.version:
        return f"{place} has version {answer.version} already."
    return f"{place} now has version {answer.version}; before, it {_before(answer)}."


def _before(answer: DatabaseMigrated) -> str:
    return "was empty" if answer.before is None else f"had version {answer.before}"


def _role_sentences(role: str | None) -> list[str]:
    return [] if role is None else [f"The role {role} has the rights that popug needs, and owns no table."]

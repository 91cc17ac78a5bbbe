"""Commands for users."""

from typing import Annotated

import msgspec
import typer

from popug_cli.cli.context import CommandContext, command
from popug_cli.cli.input.import_lines import open_import, warn_of_ignored_fields
from popug_cli.cli.input.passwords import FromStdin, read_password
from popug_cli.cli.output.blocks import Column, Hint, Table
from popug_cli.messages.base import Role
from popug_cli.messages.identity import (
    ActivateUser,
    AddUser,
    DeactivateUser,
    ImportUsers,
    ListUsers,
    NewPerson,
    SetEmail,
    SetPassword,
    SetRole,
    ShowUser,
    User,
    UserWithNewPassword,
    WhoAmI,
)

COLUMNS = (Column("username"), Column("role"), Column("e-mail", shrinks=True), Column("active"))

NameArgument = Annotated[str, typer.Argument(help="A username.")]
ROLES = ", ".join(Role)

user = typer.Typer(help="Manage the company's users and their roles.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.add_typer(user, name="user")


@command(user, "add")
def add(
    context: CommandContext,
    name: Annotated[str, typer.Argument(help="The username: a-z 0-9 . _ -, at most 32 characters.")],
    email: Annotated[str, typer.Option("--email", metavar="ADDRESS", help="The address for payout mail.")],
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help=f"One of {ROLES}.")],
    password_stdin: Annotated[bool, FromStdin] = False,
) -> None:
    """Register a user. Without --password-stdin the user cannot log in until `popug user passwd NAME`."""
    password = read_password(context, from_stdin=True, is_new=True) if password_stdin else None
    user = context.backends.perform(AddUser(username=name, email=email, role=role, password=password))
    next_step = f"`popug login {user.username}`" if password_stdin else f"`popug user passwd {user.username}`"
    no_password_note = "" if password_stdin else f"{user.username} has no password yet and cannot log in. "
    context.screen.show(
        user, lambda: [f"Registered {user.username} as {user.role}.", Hint(f"{no_password_note}Next: {next_step}.")]
    )


@command(user, "list")
def list_(context: CommandContext) -> None:
    """List all users."""
    users = context.backends.perform(ListUsers())
    context.screen.show(
        users, lambda: [Table(COLUMNS, [_row(user) for user in users.users], empty="There are no users.")]
    )


@command(user, "show")
def show(context: CommandContext, name: NameArgument) -> None:
    """Show one user."""
    user = context.backends.perform(ShowUser(username=name))
    context.screen.show(user, lambda: [Table(COLUMNS, [_row(user)])])


@command(user, "import")
def import_(
    context: CommandContext,
    file: Annotated[
        str,
        typer.Argument(
            help="JSON lines {username, email, role}, a JSON array of them, or CSV with a header; - is stdin."
        ),
    ],
) -> None:
    """Register the users of a file, all or none; users who exist with the same data are skipped.

    New users have no password yet.
    """
    with open_import(file, NewPerson) as people:
        answer = context.backends.perform(ImportUsers(people=people))
    warn_of_ignored_fields(context, people)
    context.screen.show(
        msgspec.to_builtins(answer) | {"ignored_fields": [*people.unknown_fields]},
        lambda: [
            f"{answer.imported} imported, {answer.skipped} skipped.",
            Hint("Set their passwords with `popug user passwd NAME`."),
        ],
    )


@command(user, "set-role")
def set_role(
    context: CommandContext, name: NameArgument, role: Annotated[str, typer.Argument(help=f"One of {ROLES}.")]
) -> None:
    """Change a user's role; this ends the user's logins and revokes their machine tokens."""
    user = context.backends.perform(SetRole(username=name, role=role))
    context.screen.show(user, lambda: [f"{user.username} now has the role {user.role}.", _login_hint(user)])


@command(user, "set-email")
def set_email(
    context: CommandContext, name: NameArgument, email: Annotated[str, typer.Argument(help="The new address.")]
) -> None:
    """Change a user's e-mail address."""
    user = context.backends.perform(SetEmail(username=name, email=email))
    context.screen.show(user, lambda: [f"Mail to {user.username} goes to {user.email}."])


@command(user, "deactivate")
def deactivate(context: CommandContext, name: NameArgument) -> None:
    """Deactivate a user: open tasks are reassigned, logins end, machine tokens are revoked."""
    user = context.backends.perform(DeactivateUser(username=name))
    context.screen.show(user, lambda: [f"{user.username} is deactivated; a positive balance is still paid out."])


@command(user, "activate")
def activate(context: CommandContext, name: NameArgument) -> None:
    """Activate a deactivated user."""
    user = context.backends.perform(ActivateUser(username=name))
    context.screen.show(user, lambda: [f"{user.username} is active.", _login_hint(user)])


@command(user, "passwd")
def passwd(
    context: CommandContext,
    name: Annotated[str | None, typer.Argument(help="The user whose password is set; by default you.")] = None,
    password_stdin: Annotated[bool, FromStdin] = False,
) -> None:
    """Set your own password or, as an admin, another user's; this ends that user's logins, but no machine token.

    It names the machine tokens that stay valid, with the command that revokes each.
    """
    if not password_stdin:
        context.backends.perform(WhoAmI())
    password = read_password(context, from_stdin=password_stdin, is_new=True)
    user = context.backends.perform(SetPassword(username=name, password=password))
    if user.machine_tokens:
        context.printer.warn(_machine_tokens_warning(context, user))
    context.screen.show(
        user, lambda: [f"{user.username} has a new password; earlier logins have ended.", _login_hint(user)]
    )


def _row(user: User) -> tuple[str, str, str, str]:
    return user.username, user.role, user.email, "yes" if user.active else "no"


def _machine_tokens_warning(context: CommandContext, user: UserWithNewPassword) -> str:
    """Name the machine tokens that outlive a password, each with the command that revokes it."""
    commands = [
        f"`popug token revoke {token.token_id}` ({token.scope or 'everything'},"
        f" until {context.screen.local_time(token.expires_at)})"
        for token in user.machine_tokens
    ]
    return (
        f"The new password ends no machine token of {user.username}. If one may be known to others, an admin revokes"
        f" it: {'; '.join(commands)}."
    )


def _login_hint(user: User) -> Hint:
    return Hint(f"Next, for {user.username}: `popug login {user.username}`.")

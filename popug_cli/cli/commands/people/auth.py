"""Commands: founding a company, logging in and out, and the way back for an admin."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer

from popug_cli.cli.commands.people.init_prompts import first_admin
from popug_cli.cli.context import CommandContext, add_commands, command
from popug_cli.cli.input.passwords import FromStdin, read_password
from popug_cli.cli.output.blocks import Hint
from popug_cli.cli.state import session_file
from popug_cli.kernel.errors import InvalidInput, NotAuthenticated, PopugError, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.messages.base import Nothing
from popug_cli.messages.identity import LogIn, LogOut, RecoverAdmin, Session, User, WhoAmI

ENDED_LOGIN_CODES = frozenset({"token_expired", "token_revoked", "token_invalid", "key_invalid"})

commands = typer.Typer()


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    add_commands(program, commands)


@command(commands, "init")
def init(
    context: CommandContext,
    admin: Annotated[str | None, typer.Option("--admin", metavar="NAME", help="The first admin's username.")] = None,
    email: Annotated[str | None, typer.Option("--email", metavar="ADDRESS", help="The first admin's address.")] = None,
    time_zone: Annotated[
        str | None,
        typer.Option(
            "--time-zone", metavar="TZ", help="The company's zone, such as Europe/Berlin; the machine's if left out."
        ),
    ] = None,
    password_stdin: Annotated[bool, FromStdin] = False,
) -> None:
    """Found a company: make its home, register its first admin and log them in."""
    session_file.check()
    if context.home.root.is_file():
        raise InvalidInput(
            "usage", f"{context.home.root} is a file, and a home is a directory.", hint="Name another with --home DIR."
        )
    message, zone_name = first_admin(context, admin, email, time_zone, from_stdin=password_stdin)
    with _saved_login(context, context.home) as save:
        context.backends.local.create_company(zone_name, message)
        user = context.backends.perform(message)
        with _after_founding(user):
            save(context.backends.local.perform(LogIn(username=user.username, password=message.password)))
    zone = context.backends.local.calendar.time_zone
    context.screen.show(
        {"home": str(context.home.root), "time_zone": zone, "admin": user},
        lambda: [
            f"The company lives in {context.home.root}; its clocks are those of {zone}.",
            f"{user.username} is its first admin and logged in.",
            Hint(
                "Next: `popug user add NAME --email ADDRESS --role worker`, then `popug task add TITLE`;"
                " in the evening `popug close-day`."
            ),
            Hint("On a computer that several people share: `popug serve` lets them in without rights over the files."),
        ],
    )


@command(commands, "login")
def login(
    context: CommandContext,
    name: Annotated[str, typer.Argument(help="Your username.")],
    password_stdin: Annotated[bool, FromStdin] = False,
    print_token: Annotated[
        bool, typer.Option("--print-token", help="Print the token alone, for POPUG_TOKEN; store nothing.")
    ] = False,
) -> None:
    """Log in with a password."""
    if (damaged_file := session_file.move_damaged_file()) is not None:
        context.printer.warn(
            f"The session file was damaged and is kept as {damaged_file}; other logins in it are lost."
        )
    if context.backends.remote and context.backends.remote.address.is_unencrypted_remote:
        context.printer.warn("Over http:// others can read your password and all that follows; use https://.")
    password = read_password(context, from_stdin=password_stdin, new=False)
    message = LogIn(username=name, password=password)
    if print_token:
        context.printer.line(context.backends.perform(message).token)
        return
    with _saved_login(context, context.backends.session_key) as save:
        session = context.backends.perform(message)
        save(session)
    if os.environ.get("POPUG_TOKEN"):
        context.printer.warn("POPUG_TOKEN is set and goes before this login.")
    context.screen.show(_without_token(session), lambda: [_login_sentence(context, session)])


@command(commands, "logout")
def logout(context: CommandContext) -> None:
    """End the present login."""
    stored = not os.environ.get("POPUG_TOKEN")
    try:
        answer = context.backends.perform(LogOut())
    except NotAuthenticated as error:
        if not stored or error.code not in ENDED_LOGIN_CODES:
            raise
        answer = Nothing()
    if stored:
        _drop_token(context)
    context.screen.show(answer, lambda: ["You are logged out."])


@command(commands, "whoami")
def whoami(context: CommandContext) -> None:
    """Show who you are."""
    user = context.backends.perform(WhoAmI())
    context.screen.show(user, lambda: [f"{user.username}, {user.role}, {user.email}"])


@command(commands, "recover")
def recover(
    context: CommandContext,
    name: Annotated[str, typer.Argument(help="Who is to be an active admin again.")],
    password_stdin: Annotated[bool, FromStdin] = False,
) -> None:
    """Make a person an active admin with a new password: the operator's way back into the company.

    It needs the rights over the home's files and no login. All tokens of that person end, and an event records it.
    """
    password = read_password(context, from_stdin=password_stdin, new=True)
    user: User = context.backends.perform(RecoverAdmin(username=name, password=password))
    context.screen.show(
        user,
        lambda: [
            f"{user.username} is an active admin with the new password; older logins of theirs have ended.",
            Hint(f"Next: `popug login {user.username}`."),
        ],
    )


@contextmanager
def _saved_login(context: CommandContext, company: Home | str) -> Iterator[Callable[[Session], None]]:
    """Room for the token of a login; where it cannot be kept all the same, the login ends."""
    unsaved: list[Session] = []
    try:
        with session_file.reserve(company) as save_token:

            def save(session: Session) -> None:
                unsaved.append(session)
                save_token(session.token)
                unsaved.clear()

            yield save
    except Unavailable as fault:
        if unsaved:
            raise _login_not_saved(context, unsaved[0], fault) from fault
        raise


def _login_not_saved(context: CommandContext, session: Session, fault: Unavailable) -> Unavailable:
    with suppress(PopugError):  # nobody knows the token in any case
        context.backends.active.perform(LogOut(), session.token)
    sentence = f"{fault.message} The login could not be kept, and is good for nothing."
    return Unavailable("in_doubt", sentence, hint=_login_hint(session.user), details=fault.details)


@contextmanager
def _after_founding(admin: User) -> Iterator[None]:
    """What fails from now on does not undo the founding."""
    try:
        yield
    except Unavailable as fault:
        sentence = f"{fault.message} The company is founded all the same."
        raise Unavailable("in_doubt", sentence, hint=_login_hint(admin), details=fault.details) from fault


def _login_hint(user: User) -> str:
    return f"Once that is mended, run `popug login {user.username}`."


def _drop_token(context: CommandContext) -> None:
    """Drop the token of a login that is over; where that fails, it is good for nothing all the same."""
    try:
        session_file.forget(context.backends.session_key)
    except Unavailable as fault:
        context.printer.warn(f"{fault.message} The token stays there; it is good for nothing any more.")


def _without_token(session: Session) -> dict[str, Any]:
    return {"user": session.user, "expires_at": session.expires_at}


def _login_sentence(context: CommandContext, session: Session) -> str:
    expires = context.screen.local_time(session.expires_at)
    return f"{session.user.username} ({session.user.role}) is logged in until {expires}."

"""Commands that found a company, begin and end a login, and recover an admin."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer

from popug_cli.cli.commands.people.init_prompts import ask_first_admin
from popug_cli.cli.context import CommandContext, add_commands, command
from popug_cli.cli.input.passwords import FromStdin, read_password
from popug_cli.cli.output.blocks import Hint
from popug_cli.cli.state import session_file
from popug_cli.kernel import home_owner
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
    email: Annotated[
        str | None, typer.Option("--email", metavar="ADDRESS", help="The first admin's e-mail address.")
    ] = None,
    time_zone: Annotated[
        str | None,
        typer.Option(
            "--time-zone",
            metavar="TZ",
            help="The company's time zone, such as Europe/Berlin; by default the machine's.",
        ),
    ] = None,
    password_stdin: Annotated[bool, FromStdin] = False,
) -> None:
    """Found a company: create its home, register its first admin and log the admin in."""
    home = context.home
    session_file.check()
    if home.root.is_file():
        raise InvalidInput(
            "usage", f"{home.root} is a file; a home must be a directory.", hint="Name a directory with --home DIR."
        )
    home_owner.check_place(home.root)
    message, zone_name = ask_first_admin(context, admin, email, time_zone, from_stdin=password_stdin)
    with _saved_login(context, home) as save:
        context.backends.local.create_company(zone_name, message)
        user = context.backends.perform(message)
        with _after_founding(user):
            save(context.backends.local.perform(LogIn(username=user.username, password=message.password)))
    zone = context.backends.local.calendar.time_zone
    place = context.backends.local.runtime.database.address or home.root
    context.screen.show(
        {"home": str(home.root), "time_zone": zone, "admin": user},
        lambda: [
            f"Created the company in {place} (time zone {zone}).",
            f"{user.username} is its first admin and is logged in.",
            Hint(
                "Next: `popug user add NAME --email ADDRESS --role worker`, then `popug task add TITLE`;"
                " in the evening `popug close-day`."
            ),
            Hint("On a shared computer: `popug serve` lets other users in without permissions on the files."),
        ],
    )


@command(commands, "login")
def login(
    context: CommandContext,
    name: Annotated[str, typer.Argument(help="Your username.")],
    password_stdin: Annotated[bool, FromStdin] = False,
    print_token: Annotated[
        bool, typer.Option("--print-token", help="Print only the token, for POPUG_TOKEN; store nothing.")
    ] = False,
) -> None:
    """Log in with a password."""
    if (damaged_file := session_file.move_damaged_file()) is not None:
        context.printer.warn(
            f"The session file was damaged and was moved to {damaged_file}; other logins in it are lost."
        )
    if context.backends.remote and context.backends.remote.address.is_unencrypted_remote:
        context.printer.warn("Over http:// others can read your password and everything after it; use https://.")
    password = read_password(context, from_stdin=password_stdin, is_new=False)
    device_token = session_file.device_token_for(context.backends.session_key, name)
    message = LogIn(username=name, password=password, device_token=device_token)
    if print_token:
        context.printer.line(context.backends.perform(message).token)
        return
    with _saved_login(context, context.backends.session_key) as save:
        session = context.backends.perform(message)
        save(session)
    if session_file.token_of_environment():
        context.printer.warn(
            "POPUG_TOKEN is set and takes precedence over this login. To use the login, run `unset POPUG_TOKEN`."
        )
    context.screen.show(_login_answer(session), lambda: [_login_sentence(context, session)])


@command(commands, "logout")
def logout(context: CommandContext) -> None:
    """End the current login."""
    is_stored = not session_file.token_of_environment()
    try:
        answer = context.backends.perform(LogOut())
    except NotAuthenticated as error:
        if not is_stored or error.code not in ENDED_LOGIN_CODES:
            raise
        answer = Nothing()
    if is_stored:
        _drop_token(context)
    context.screen.show(answer, lambda: ["You are logged out."])


@command(commands, "whoami")
def whoami(context: CommandContext) -> None:
    """Show your username, role and e-mail address."""
    user = context.backends.perform(WhoAmI())
    context.screen.show(user, lambda: [f"{user.username}, {user.role}, {user.email}"])


@command(commands, "recover")
def recover(
    context: CommandContext,
    name: Annotated[str, typer.Argument(help="The user who becomes an active admin.")],
    password_stdin: Annotated[bool, FromStdin] = False,
) -> None:
    """Make a user an active admin with a new password, for example if no admin can log in.

    It needs permissions on the home's files, but no login. It revokes all tokens of the user and records an event.
    """
    password = read_password(context, from_stdin=password_stdin, is_new=True)
    user: User = context.backends.perform(RecoverAdmin(username=name, password=password))
    context.screen.show(
        user,
        lambda: [
            f"{user.username} is an active admin with the new password; all earlier logins of this user have ended.",
            Hint(f"Next: `popug login {user.username}`."),
        ],
    )


@contextmanager
def _saved_login(context: CommandContext, company: Home | str) -> Iterator[Callable[[Session], None]]:
    """Reserve disk space for a session token and yield the function that stores it, and then its device token.

    If storing fails anyway, revoke the token and raise ``in_doubt``.
    """
    unsaved_sessions: list[Session] = []
    try:
        with session_file.reserve(company) as save_token:

            def save(session: Session) -> None:
                unsaved_sessions.append(session)
                save_token(session.token)
                unsaved_sessions.clear()
                with suppress(PopugError):  # without a device token the next login counts as one from a new device
                    session_file.remember_device(company, session.user.username, session.device_token)

            yield save
    except Unavailable as error:
        if unsaved_sessions:
            raise _login_not_saved(context, unsaved_sessions[0], error) from error
        raise


def _login_not_saved(context: CommandContext, session: Session, error: Unavailable) -> Unavailable:
    with suppress(PopugError):  # if this fails, too: the token was never shown or stored
        context.backends.active.perform(LogOut(), session.token)
    sentence = f"{error.message} The login could not be stored, so you are not logged in."
    return Unavailable("in_doubt", sentence, hint=_login_hint(session.user), details=error.details)


@contextmanager
def _after_founding(admin: User) -> Iterator[None]:
    """Turn ``Unavailable`` into ``in_doubt``, which says that the company was created nevertheless."""
    try:
        yield
    except Unavailable as error:
        sentence = f"{error.message} The company was created nevertheless."
        raise Unavailable("in_doubt", sentence, hint=_login_hint(admin), details=error.details) from error


def _login_hint(user: User) -> str:
    return f"Fix that, then run `popug login {user.username}`."


def _drop_token(context: CommandContext) -> None:
    """Remove the stored token of an ended login. If the file cannot be written, only warn: the token has ended."""
    try:
        session_file.forget(context.backends.session_key)
    except Unavailable as error:
        context.printer.warn(f"{error.message} The token stays there, but it is not valid any more.")


def _login_answer(session: Session) -> dict[str, Any]:
    return {"user": session.user, "expires_at": session.expires_at}


def _login_sentence(context: CommandContext, session: Session) -> str:
    expires = context.screen.local_time(session.expires_at)
    return f"{session.user.username} ({session.user.role}) is logged in until {expires}."

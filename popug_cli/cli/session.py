"""Commands: founding a company, logging in and out, and the way back for an admin."""

import os
from typing import Annotated, Any

import typer

from popug_cli.cli import session_file
from popug_cli.cli.face import Face, command
from popug_cli.cli.interview import first_admin
from popug_cli.cli.passwords import FromStdin, read_password
from popug_cli.cli.render import Hint
from popug_cli.kernel.errors import InvalidInput, NotAuthenticated
from popug_cli.messages.base import Done
from popug_cli.messages.identity import LogIn, LogOut, RecoverAdmin, Session, User, WhoAmI

START_PANEL = "Start here"
PANEL = "People and sessions"
OVER_ALREADY = frozenset({"token_expired", "token_revoked", "token_invalid", "key_invalid"})


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    command(program, "init", panel=START_PANEL)(init)
    command(program, "login", panel=START_PANEL)(login)
    command(program, "logout", panel=PANEL)(logout)
    command(program, "whoami", panel=PANEL)(whoami)
    command(program, "recover", panel="The home")(recover)


def init(
    face: Face,
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
    if face.home.root.is_file():
        raise InvalidInput(
            "usage", f"{face.home.root} is a file, and a home is a directory.", hint="Name another with --home DIR."
        )
    message, zone_name = first_admin(face, admin, email, time_zone, from_stdin=password_stdin)
    face.here.found(zone_name, message)
    user = face.perform(message)
    session = face.here.perform(LogIn(username=user.username, password=message.password))
    session_file.remember(face.home, session.token)
    zone = face.here.calendar.time_zone
    face.show(
        {"home": str(face.home.root), "time_zone": zone, "admin": user},
        lambda: [
            f"The company lives in {face.home.root}; its clocks are those of {zone}.",
            f"{user.username} is its first admin and logged in.",
            Hint(
                "Next: `popug user add NAME --email ADDRESS --role worker`, then `popug task add TITLE`;"
                " in the evening `popug close-day`."
            ),
            Hint("On a computer that several people share: `popug serve` lets them in without rights over the files."),
        ],
    )


def login(
    face: Face,
    name: Annotated[str, typer.Argument(help="Your username.")],
    password_stdin: Annotated[bool, FromStdin] = False,
    print_token: Annotated[
        bool, typer.Option("--print-token", help="Print the token alone, for POPUG_TOKEN; store nothing.")
    ] = False,
) -> None:
    """Log in with a password."""
    if (damaged := session_file.put_damaged_aside()) is not None:
        face.printer.warn(f"The session file was damaged and is kept as {damaged}; other logins in it are lost.")
    if face.server and face.server.address.is_in_the_clear:
        face.printer.warn("Over http:// others can read your password and all that follows; use https://.")
    password = read_password(face, from_stdin=password_stdin, new=False)
    session = face.perform(LogIn(username=name, password=password))
    if print_token:
        face.printer.line(session.token)
        return
    session_file.remember(face.company, session.token)
    if os.environ.get("POPUG_TOKEN"):
        face.printer.warn("POPUG_TOKEN is set and goes before this login.")
    face.show(_without_token(session), lambda: [_welcome(face, session)])


def logout(face: Face) -> None:
    """End the present login."""
    stored = not os.environ.get("POPUG_TOKEN")
    try:
        answer = face.perform(LogOut())
    except NotAuthenticated as error:
        if not stored or error.code not in OVER_ALREADY:
            raise
        answer = Done()
    if stored:
        session_file.forget(face.company)
    face.show(answer, lambda: ["You are logged out."])


def whoami(face: Face) -> None:
    """Show who you are."""
    user = face.perform(WhoAmI())
    face.show(user, lambda: [f"{user.username}, {user.role}, {user.email}"])


def recover(
    face: Face,
    name: Annotated[str, typer.Argument(help="Who is to be an active admin again.")],
    password_stdin: Annotated[bool, FromStdin] = False,
) -> None:
    """Make a person an active admin with a new password: the operator's way back into the company.

    It needs the rights over the home's files and no login. All tokens of that person end, and an event records it.
    """
    password = read_password(face, from_stdin=password_stdin, new=True)
    user: User = face.perform(RecoverAdmin(username=name, password=password))
    face.show(
        user,
        lambda: [
            f"{user.username} is an active admin with the new password; older logins of theirs have ended.",
            Hint(f"Next: `popug login {user.username}`."),
        ],
    )


def _without_token(session: Session) -> dict[str, Any]:
    return {"user": session.user, "expires_at": session.expires_at}


def _welcome(face: Face, session: Session) -> str:
    return f"{session.user.username} ({session.user.role}) is logged in until {face.local_time(session.expires_at)}."

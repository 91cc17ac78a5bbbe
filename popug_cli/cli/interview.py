"""Founding a company at a terminal: one question at a time, each with a default, asked again until it will do."""

import getpass
import socket
import sys
from collections.abc import Callable

import typer

from popug_cli.app import newcomer
from popug_cli.cli.face import Face
from popug_cli.cli.passwords import ask, is_terminal, read_password
from popug_cli.kernel.calendar import machine_zone_name
from popug_cli.kernel.errors import InvalidInput
from popug_cli.messages.identity import RegisterFirstAdmin

INTRODUCTION = (
    "A company needs a first admin, who hires the others, and a time zone, which says when a day ends."
    " Enter takes what stands in brackets; Ctrl-C leaves everything as it is."
)


def first_admin(
    face: Face, username: str | None, email: str | None, time_zone: str | None, *, from_stdin: bool
) -> tuple[RegisterFirstAdmin, str]:
    """The first admin and the company's zone: as given, asked for at a terminal, or ``usage`` where there is none."""
    talks = is_terminal() and not from_stdin and (username is None or email is None)
    if not talks:
        given = username if username is not None else ask(face, "Username of the first admin", "--admin")
        address = email if email is not None else ask(face, "E-mail address of the first admin", "--email")
        password = read_password(face, from_stdin=from_stdin, new=True)
        message = RegisterFirstAdmin(username=given, email=address, password=password)
        return message, machine_zone_name() if time_zone is None else time_zone
    face.printer.note(INTRODUCTION)
    if username is None:
        username = _asked(face, "Username of the first admin", _login_name(), newcomer.check_username)
    if email is None:
        here = f"{username.lower()}@{socket.gethostname()}"
        email = _asked(face, "Their e-mail address", here, newcomer.check_email)
    if time_zone is None:
        time_zone = _asked(face, "The company's time zone", machine_zone_name(), newcomer.check_time_zone)
    password = _password(face, username, email)
    return RegisterFirstAdmin(username=username, email=email, password=password), time_zone


def _asked(face: Face, question: str, default: str, check: Callable[[str], None]) -> str:
    """An answer that will do; the default stands in brackets if it would do itself."""
    offered = default if _will_do(default, check) else ""
    while True:
        face.printer.ask(f"{question} [{offered}]:" if offered else f"{question}:")
        line = sys.stdin.readline()
        if not line:
            raise typer.Abort
        answer = line.strip() or offered
        try:
            check(answer)
        except InvalidInput as error:
            face.printer.error(error, as_json=False)
        else:
            return answer


def _will_do(answer: str, check: Callable[[str], None]) -> bool:
    try:
        check(answer)
    except InvalidInput:
        return False
    return True


def _password(face: Face, username: str, email: str) -> str:
    while True:
        try:
            password = read_password(face, from_stdin=False, new=True)
            newcomer.check_password(password, username.lower(), email)
        except InvalidInput as error:
            face.printer.error(error, as_json=False)
        else:
            return password


def _login_name() -> str:
    try:
        return getpass.getuser().lower()
    except (KeyError, OSError):
        return ""

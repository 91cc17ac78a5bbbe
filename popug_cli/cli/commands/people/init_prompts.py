"""Prompts of ``popug init`` at a terminal: one question at a time, repeated until the answer is valid."""

import getpass
import socket
import sys
from collections.abc import Callable

import typer

from popug_cli.app import first_admin
from popug_cli.cli.context import CommandContext
from popug_cli.cli.input.passwords import is_terminal, prompt_line, read_password
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.machine_zone import machine_zone_name
from popug_cli.messages.identity import RegisterFirstAdmin

INTRODUCTION = (
    "A company needs a first admin, who registers the other users, and a time zone, which says when a day ends."
    " Press Enter to accept the value in brackets, or Ctrl-C to cancel without changes."
)


def ask_first_admin(
    context: CommandContext, username: str | None, email: str | None, time_zone: str | None, *, from_stdin: bool
) -> tuple[RegisterFirstAdmin, str]:
    """Return the message that registers the first admin, and the company's time zone.

    Values come from options; at a terminal, missing ones are prompted for until they are valid. Raise ``usage`` if a
    value is missing and there is no terminal, ``needs_time_zone`` if the machine's zone is not clear, and
    ``password_mismatch`` if two passwords differ.
    """
    is_interactive = is_terminal() and not from_stdin and (username is None or email is None)
    if not is_interactive:
        zone_name = machine_zone_name() if time_zone is None else time_zone
        name = username if username is not None else prompt_line(context, "Username of the first admin", "--admin")
        address = email if email is not None else prompt_line(context, "E-mail address of the first admin", "--email")
        password = read_password(context, from_stdin=from_stdin, is_new=True)
        message = RegisterFirstAdmin(username=name, email=address, password=password)
        return message, zone_name
    context.printer.remark(INTRODUCTION)
    if username is None:
        username = _prompt(context, "Username of the first admin", _login_name(), first_admin.check_username)
    if email is None:
        default_email = f"{username.lower()}@{socket.gethostname()}"
        email = _prompt(context, "Their e-mail address", default_email, first_admin.check_email)
    if time_zone is None:
        time_zone = _prompt(context, "The company's time zone", _machine_zone(context), first_admin.check_time_zone)
    password = _prompt_password(context, username, email)
    return RegisterFirstAdmin(username=username, email=email, password=password), time_zone


def _prompt(context: CommandContext, question: str, default: str, check: Callable[[str], None]) -> str:
    """Prompt until the answer passes ``check``. The default is offered in brackets if it passes, too."""
    shown_default = default if _is_valid(default, check) else ""
    while True:
        context.printer.ask(f"{question} [{shown_default}]:" if shown_default else f"{question}:")
        line = sys.stdin.readline()
        if not line:
            raise typer.Abort
        answer = line.strip() or shown_default
        try:
            check(answer)
        except InvalidInput as error:
            context.printer.error(error, as_json=False)
        else:
            return answer


def _is_valid(answer: str, check: Callable[[str], None]) -> bool:
    try:
        check(answer)
    except InvalidInput:
        return False
    return True


def _prompt_password(context: CommandContext, username: str, email: str) -> str:
    while True:
        try:
            password = read_password(context, from_stdin=False, is_new=True)
            first_admin.check_password(password, username.lower(), email)
        except InvalidInput as error:
            context.printer.error(error, as_json=False)
        else:
            return password


def _machine_zone(context: CommandContext) -> str:
    """Return the machine's time zone, or an empty text after a remark if it is not clear."""
    try:
        return machine_zone_name()
    except InvalidInput as error:
        context.printer.remark(error.message)
        return ""


def _login_name() -> str:
    try:
        return getpass.getuser().lower()
    except (KeyError, OSError):
        return ""

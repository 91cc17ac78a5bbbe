"""Read passwords: from the first line of stdin or hidden at a terminal, never from an argument."""

import sys
from codecs import BOM_UTF16_BE, BOM_UTF16_LE

import typer

from popug_cli.cli.context import CommandContext
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.text import decode_text

MAX_LINE_BYTES = 16 * 1024

FromStdin = typer.Option("--password-stdin", help="Read the password from the first line of stdin.")


def read_password(context: CommandContext, *, from_stdin: bool, is_new: bool) -> str:
    """Return the first line of stdin or, without ``from_stdin``, a password typed at the terminal, twice if ``is_new``.

    Raise ``usage`` without a terminal or if stdin is not UTF-8, and ``password_mismatch`` if the two differ.
    """
    if from_stdin:
        return _read_first_line_of_stdin()
    if not is_terminal():
        raise InvalidInput(
            "usage",
            "A password is needed, but there is no terminal.",
            hint="Give --password-stdin and write the password to stdin, as its first line.",
        )
    password = _prompt_hidden(f"New password ({_length_requirement()}): " if is_new else "Password: ")
    if is_new and _prompt_hidden("The same password again: ") != password:
        raise InvalidInput("password_mismatch", "The two passwords differ.", hint="Nothing was done; try again.")
    return password


def prompt_line(context: CommandContext, question: str, option: str) -> str:
    """Return a line typed at a terminal. Without a terminal, raise ``usage``, which names the option."""
    if not is_terminal():
        raise InvalidInput("usage", f"{option} is missing.", hint=f"Give {option}, or run this at a terminal.")
    context.printer.ask(f"{question}:")
    line = sys.stdin.readline()
    if not line:
        raise typer.Abort
    return line.strip()


def is_terminal() -> bool:
    """Return whether the program can ask the user: stdin and stderr are terminals."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _length_requirement() -> str:
    from popug_cli.app.first_admin import MIN_PASSWORD_CHARACTERS

    return f"{MIN_PASSWORD_CHARACTERS} characters or more"


def _prompt_hidden(prompt: str) -> str:
    from getpass import getpass

    try:
        return getpass(prompt)
    except EOFError:
        raise typer.Abort from None


def _read_first_line_of_stdin() -> str:
    """Return the first line of stdin, cut to ``MAX_LINE_BYTES``; raise ``usage`` if it is not UTF-8 or UTF-16."""
    line = sys.stdin.buffer.readline(MAX_LINE_BYTES)
    if line.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        line += sys.stdin.buffer.read(MAX_LINE_BYTES - len(line))  # a line feed has two bytes
        line = line[: len(line) // 2 * 2]
    try:
        return decode_text(line).partition("\n")[0].removesuffix("\r")
    except UnicodeDecodeError:
        raise InvalidInput("usage", "The password on stdin is not UTF-8.", hint="Write it in UTF-8.") from None

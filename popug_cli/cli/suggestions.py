"""What somebody may have meant who mistyped a word."""

import re

from popug_cli.cli.surface import surface
from popug_cli.kernel.errors import NotFound
from popug_cli.kernel.home import Home
from popug_cli.kernel.text import meant

COMMANDS_NAMED = 3
_NO_COMMAND = re.compile(r"No such command '([^']*)'")
_NOT_A_CHOICE = re.compile(r"'([^']*)' is not one of (.*)\.")


def of_choices(said: str) -> str:
    """The nearest of the choices that a refusal names, as a sentence with a space behind it."""
    found = _NOT_A_CHOICE.search(said)
    return meant(found[1], re.findall(r"'([^']*)'", found[2])) if found else ""


def of_examples(path: str) -> str:
    """The first example of a command that was called wrongly, as a sentence with a space behind it."""
    found = surface().commands.get(path.partition(" ")[2])
    return f"For example: `{found.examples[0][0]}`. " if found and found.examples else ""


def of_commands(said: str) -> str:
    """The commands elsewhere that end in a word that is none, as a sentence with a space behind it."""
    found = _NO_COMMAND.search(said)
    paths = [path for path in surface().commands if found and path.split(" ")[-1] == found[1]]
    return f"Did you mean {' or '.join(f'`popug {path}`' for path in paths[:COMMANDS_NAMED])}? " if paths else ""


def of_people(error: NotFound, home: Home, token: str | None) -> NotFound:
    """The refusal of a name, with those of the names that one may see that are near."""
    from popug_cli.app.glance import look

    typed = str(error.details.get("username", ""))
    seen = [name for name, _ in look(home, token, "person", "")] if token else []
    return NotFound(error.code, error.message, hint=meant(typed, seen) + error.hint, details=error.details)

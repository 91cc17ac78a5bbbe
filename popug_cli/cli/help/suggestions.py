"""Suggestions for mistyped words."""

import re
import shlex

from popug_cli.cli.help.surface import surface
from popug_cli.kernel.errors import NotFound
from popug_cli.kernel.home import Home
from popug_cli.kernel.text import did_you_mean

MAX_SUGGESTED_COMMANDS = 3
_UNKNOWN_COMMAND = re.compile(r"No such command '([^']*)'")
_NOT_A_CHOICE = re.compile(r"'([^']*)' is not one of (.*)\.")


def suggest_choices(message: str) -> str:
    """Return the nearest of the choices that an error message lists, as a sentence and a space."""
    match = _NOT_A_CHOICE.search(message)
    return did_you_mean(match[1], re.findall(r"'([^']*)'", match[2])) if match else ""


def suggest_examples(path: str) -> str:
    """Return the first example of a command, as a sentence and a space."""
    command = surface().commands.get(path.partition(" ")[2])
    return f"For example: `{command.examples[0][0]}`. " if command and command.examples else ""


def suggest_commands(message: str) -> str:
    """Return the commands that end in the unknown word of an error message, as a sentence and a space."""
    match = _UNKNOWN_COMMAND.search(message)
    paths = [path for path in surface().commands if match and path.split(" ")[-1] == match[1]]
    return (
        f"Did you mean {' or '.join(f'`popug {path}`' for path in paths[:MAX_SUGGESTED_COMMANDS])}? " if paths else ""
    )


def suggest_double_dash(error: Exception, arguments: list[str]) -> str:
    """Return the command line with ``--`` before a value that was taken for an option, as a sentence and a space.

    Return an empty text for other errors, and for a word without blanks that resembles an option of the command.
    """
    option, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if option is None or context is None:
        return ""
    takes_values = any(parameter.param_type_name == "argument" for parameter in context.command.params)
    value = next((word for word in arguments if _contains_option(word, option)), None)
    if value is None or not takes_values or (getattr(error, "possibilities", None) and len(value.split()) == 1):
        return ""
    words = shlex.join(["popug", *(word for word in arguments if word != value), "--", value])
    return f"If {value!r} is a value and not an option, write -- before it: `{words}`. "


def _contains_option(word: str, option: str) -> bool:
    """Return whether a word begins with an option, or is a dash and letters of which one is the option."""
    return word.startswith(option) or (word[:1] == "-" and "--" not in {word[:2], option[:2]} and option[1:] in word)


def with_username_suggestions(error: NotFound, home: Home, token: str | None) -> NotFound:
    """Return the error; its hint begins with similar usernames of this home, among those that the user may see."""
    from popug_cli.app.views.shell_completion import from_database

    typed = str(error.details.get("username", ""))
    visible_names = [name for name, _ in from_database(home, token, "person", "")] if token else []
    return NotFound(
        error.code, error.message, hint=did_you_mean(typed, visible_names) + error.hint, details=error.details
    )

"""All commands and options as data, so that help and completion need no Typer.

``python -m tests.generate`` makes ``surface.json`` from the commands and from ``guide.toml``; a test compares them.
"""

import json
import os
from functools import cache
from typing import Any, NamedTuple

FILE = os.path.join(os.path.dirname(__file__), "surface.json")  # noqa: PTH118, PTH120 - pathlib takes longer to import


class Parameter(NamedTuple):
    """An option or, without ``names``, an argument.

    ``value`` is the placeholder of its value, empty for a flag. ``completes`` says how the shell completes the value.
    ``everywhere`` marks an option that every command has.
    """

    help: str
    names: tuple[str, ...] = ()
    value: str = ""
    required: bool = False
    default: str = ""
    choices: tuple[str, ...] = ()
    completes: str = ""
    everywhere: bool = False

    @property
    def is_option(self) -> bool:
        """Whether this is an option."""
        return bool(self.names)


class CommandSpec(NamedTuple):
    """A command: its help text, panel and parameters (``takes``).

    ``examples`` are pairs of command line and description. ``then`` is the next step after a change, a format string
    with the fields of the answer.
    """

    help: str
    panel: str
    takes: tuple[Parameter, ...]
    examples: tuple[tuple[str, str], ...] = ()
    then: str = ""


class Group(NamedTuple):
    """A word that begins several commands."""

    help: str
    panel: str


class Surface(NamedTuple):
    """All commands and groups, by their words after ``popug``; ``options`` are those of ``popug`` itself."""

    help: str
    panels: tuple[str, ...]
    options: tuple[Parameter, ...]
    groups: dict[str, Group]
    commands: dict[str, CommandSpec]

    def children_of(self, words: str) -> dict[str, CommandSpec | Group]:
        """Return the commands and groups that may follow ``words``, by the next word, in the order of the help."""
        prefix = f"{words} " if words else ""
        entries: dict[str, CommandSpec | Group] = {**self.commands, **self.groups}
        ordered = sorted(entries, key=lambda path: (self._panel_index(entries[path]), path))
        return {
            path.removeprefix(prefix): entries[path]
            for path in ordered
            if path.startswith(prefix) and " " not in path.removeprefix(prefix)
        }

    def parameters_of(self, words: str) -> tuple[Parameter, ...]:
        """Return the parameters of a command, or of ``popug`` without words. For others, return the common options."""
        if not words:
            return self.options
        command = self.commands.get(words)
        return command.takes if command else tuple(parameter for parameter in self.options if parameter.everywhere)

    def _panel_index(self, entry: "CommandSpec | Group") -> int:
        return self.panels.index(entry.panel)


@cache
def surface() -> Surface:
    """Return the program's surface."""
    with open(FILE, encoding="utf-8") as file:  # noqa: PTH123
        return _decode(json.load(file))


def _decode(document: dict[str, Any]) -> Surface:
    """Build the surface from its JSON document. msgspec would take longer to import than the whole completion."""
    return Surface(
        document["help"],
        tuple(document["panels"]),
        _parameters(document["options"]),
        {words: Group(**fields) for words, fields in document["groups"].items()},
        {words: _command(**fields) for words, fields in document["commands"].items()},
    )


def _command(*, takes: list[dict[str, Any]], examples: list[list[str]] | None = None, **texts: str) -> CommandSpec:
    return CommandSpec(takes=_parameters(takes), examples=tuple((line, text) for line, text in examples or ()), **texts)


def _parameters(documents: list[dict[str, Any]]) -> tuple[Parameter, ...]:
    return tuple(Parameter(**{name: _frozen(value) for name, value in fields.items()}) for fields in documents)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class ParsedCommandLine(NamedTuple):
    """A parsed command line.

    ``words`` name the command. ``option_without_value`` is an option at the end of the line whose value is missing.
    ``options_ended`` means that ``--`` was given.
    """

    words: str
    options: dict[str, str]
    option_without_value: Parameter | None
    positional: list[str]
    options_ended: bool


def parse(arguments: list[str]) -> ParsedCommandLine:
    """Parse a command line, complete or not. Unknown words raise no error. The value of a flag is empty."""
    program, words, options, positional = surface(), "", dict[str, str](), list[str]()
    remaining = list(arguments)
    while remaining:
        word = remaining.pop(0)
        if word == "--":
            return ParsedCommandLine(words, options, None, positional + remaining, options_ended=True)
        if word.startswith("-") and word != "-":
            name, equals, value = word.partition("=")
            options[name] = value
            option = next(
                (
                    parameter
                    for parameter in program.parameters_of(words)
                    if name in parameter.names and parameter.value
                ),
                None,
            )
            if option and not equals:
                if not remaining:
                    return ParsedCommandLine(words, options, option, positional, options_ended=False)
                options[name] = remaining.pop(0)
        elif not positional and (longer_words := f"{words} {word}".strip()) in {**program.commands, **program.groups}:
            words = longer_words
        else:
            positional.append(word)
    return ParsedCommandLine(words, options, None, positional, options_ended=False)

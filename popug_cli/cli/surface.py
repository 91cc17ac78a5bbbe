"""What the program offers, as data, so that help and completion need no Typer.

``python -m tests.architecture.readme --write`` makes ``surface.json`` from the commands and from ``guide.toml``; a test
holds it to them.
"""

from functools import cache
from pathlib import Path

import msgspec

FILE = Path(__file__).with_name("surface.json")


class Parameter(msgspec.Struct, frozen=True, omit_defaults=True):
    """An option or, where it has no names, an argument; ``value`` is what stands for its value, none for a flag."""

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
        """Whether it goes by a name."""
        return bool(self.names)


class Command(msgspec.Struct, frozen=True, omit_defaults=True):
    """A command: its file, its help, the panel it stands in, what it takes.

    ``examples`` are command lines with what they do; ``then`` is the next step after a change, with places for the
    fields of its answer.
    """

    file: str
    help: str
    panel: str
    takes: tuple[Parameter, ...]
    examples: tuple[tuple[str, str], ...] = ()
    then: str = ""


class Group(msgspec.Struct, frozen=True, omit_defaults=True):
    """A word that commands stand behind."""

    file: str
    help: str
    panel: str


class Surface(msgspec.Struct, frozen=True):
    """All commands and groups by their words after ``popug``; ``options`` are those of ``popug`` itself."""

    help: str
    panels: tuple[str, ...]
    options: tuple[Parameter, ...]
    groups: dict[str, Group]
    commands: dict[str, Command]

    def below(self, words: str) -> dict[str, Command | Group]:
        """What may follow some words, by the next word, in the order of the help."""
        prefix = f"{words} " if words else ""
        everything: dict[str, Command | Group] = {**self.commands, **self.groups}
        ordered = sorted(everything, key=lambda path: (self._place(everything[path]), path))
        return {
            path.removeprefix(prefix): everything[path]
            for path in ordered
            if path.startswith(prefix) and " " not in path.removeprefix(prefix)
        }

    def takes(self, words: str) -> tuple[Parameter, ...]:
        """What a command takes, or ``popug`` itself where there are no words; nothing for what there is not."""
        if not words:
            return self.options
        command = self.commands.get(words)
        return command.takes if command else tuple(each for each in self.options if each.everywhere)

    def _place(self, of: "Command | Group") -> int:
        return self.panels.index(of.panel)


@cache
def surface() -> Surface:
    """The program's surface."""
    return msgspec.json.decode(FILE.read_bytes(), type=Surface)


class Line(msgspec.Struct, frozen=True):
    """A command line taken apart: the words that name a command, the options, what an option waits for, the rest."""

    words: str
    options: dict[str, str]
    waiting: Parameter | None
    rest: list[str]
    only_rest: bool


def read(arguments: list[str]) -> Line:
    """Take a command line apart as far as it goes; a flag's value is empty."""
    known, words, options, rest = surface(), "", dict[str, str](), list[str]()
    behind = list(arguments)
    while behind:
        word = behind.pop(0)
        if word == "--":
            return Line(words, options, None, rest + behind, only_rest=True)
        if word.startswith("-") and word != "-":
            name, equals, value = word.partition("=")
            options[name] = value
            taking = next((each for each in known.takes(words) if name in each.names and each.value), None)
            if taking and not equals:
                if not behind:
                    return Line(words, options, taking, rest, only_rest=False)
                options[name] = behind.pop(0)
        elif not rest and (further := f"{words} {word}".strip()) in {**known.commands, **known.groups}:
            words = further
        else:
            rest.append(word)
    return Line(words, options, None, rest, only_rest=False)

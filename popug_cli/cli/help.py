"""Help from the surface and the guide: one sentence, what it takes, two examples."""

from collections.abc import Iterable, Iterator

from popug_cli.cli.blocks import Block, Heading, Hint, Panel
from popug_cli.cli.surface import Command, Group, Parameter, surface

MORE = "COMMAND --help shows what a command takes, with examples; popug man prints the whole manual."


def blocks(words: str) -> Iterator[Block]:
    """The help of a command, of a group, or of ``popug`` itself."""
    known = surface()
    command, group = known.commands.get(words), known.groups.get(words)
    yield Heading(f"Usage: {usage(words)}")
    yield ""
    yield (command or group or known).help
    if command:
        yield from _takes(command)
    if not command or group:
        yield from _panels(known.below(words))
    yield from _panel("Everywhere" if words else "Options", map(_term, _everywhere(words)))
    if command and command.examples:
        yield ""
        yield Heading("Examples")
        yield "\n".join(f"  {what}\n    $ {line}" for line, what in command.examples)
    else:
        yield Hint(" ".join(["popug", *words.split(), MORE]))


def usage(words: str) -> str:
    """How it is typed."""
    command = surface().commands.get(words)
    if words in surface().groups or not words:
        return " ".join(["popug", *words.split(), "[OPTIONS]", "COMMAND ..."])
    assert command is not None
    own = [each for each in command.takes if not each.everywhere]
    required = [f"{each.names[0]} {each.value}" for each in own if each.is_option and each.required]
    arguments = [each.value if each.required else f"[{each.value}]" for each in own if not each.is_option]
    return " ".join(["popug", words, *arguments, *required, "[OPTIONS]"])


def told(each: Parameter) -> str:
    """What a parameter is for, with what it may be and what it is unless said."""
    marks = []
    if (
        each.choices
        and "|".join(each.choices) != each.value
        and not all(choice in each.help for choice in each.choices)
    ):
        marks.append(", ".join(each.choices))
    if each.default and each.default not in {"None", "[]"}:
        marks.append(f"default: {each.default}")
    if each.required and each.is_option:
        marks.append("required")
    return " ".join([each.help, *(f"[{mark}]" for mark in marks)])


def name_of(each: Parameter) -> str:
    """How a parameter is typed."""
    if not each.is_option:
        return each.value
    names = ", ".join(sorted(each.names, key=len))
    return f"{names} {each.value}" if each.value else names


def _takes(command: Command) -> Iterator[Block]:
    own = [each for each in command.takes if not each.everywhere]
    yield from _panel("Arguments", (_term(each) for each in own if not each.is_option))
    yield from _panel("Options", (_term(each) for each in own if each.is_option))


def _everywhere(words: str) -> Iterator[Parameter]:
    common = surface().commands[words].takes if words in surface().commands else surface().options
    yield from (each for each in common if each.everywhere or not words)
    yield Parameter(help="Show this and leave.", names=("--help", "-h"))


def _panels(below: dict[str, Command | Group]) -> Iterator[Block]:
    for panel in surface().panels:
        rows = ((word, _sentence(each.help)) for word, each in below.items() if each.panel == panel)
        yield from _panel(panel, rows)


def _panel(title: str, rows: Iterable[tuple[str, str]]) -> Iterator[Panel]:
    found = [*rows]
    if found:
        yield Panel(title, found)


def _term(each: Parameter) -> tuple[str, str]:
    return name_of(each), told(each)


def _sentence(text: str) -> str:
    return text.partition("\n")[0].partition(". ")[0].rstrip(".") + "."

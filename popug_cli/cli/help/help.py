"""The text of help, from the surface: a sentence, arguments and options, examples."""

from collections.abc import Iterable, Iterator

from popug_cli.cli.help.surface import CommandSpec, Group, Parameter, surface
from popug_cli.cli.output.blocks import Block, Heading, Hint, Panel

MORE_HELP = "COMMAND --help shows a command's options and examples; popug man shows the whole manual."


def blocks(words: str) -> Iterator[Block]:
    """Yield the help of a command, of a group, or of ``popug`` itself."""
    program = surface()
    command, group = program.commands.get(words), program.groups.get(words)
    yield Heading(f"Usage: {usage(words)}")
    yield ""
    yield (command or group or program).help
    if command:
        yield from _parameter_panels(command)
    if not command or group:
        yield from _command_panels(program.children_of(words))
    yield from _panel("Common options" if words else "Options", map(_term, _common_options(words)))
    if command and command.examples:
        yield ""
        yield Heading("Examples")
        yield "\n".join(f"  {description}\n    $ {line}" for line, description in command.examples)
    else:
        yield Hint(" ".join(["popug", *words.split(), MORE_HELP]))


def usage(words: str) -> str:
    """Return the usage line of a command, of a group, or of ``popug`` itself."""
    command = surface().commands.get(words)
    if words in surface().groups or not words:
        return " ".join(["popug", *words.split(), "[OPTIONS]", "COMMAND ..."])
    assert command is not None
    own_parameters = [parameter for parameter in command.takes if not parameter.everywhere]
    required = [
        f"{parameter.names[0]} {parameter.value}"
        for parameter in own_parameters
        if parameter.is_option and parameter.required
    ]
    arguments = [
        parameter.value if parameter.required else f"[{parameter.value}]"
        for parameter in own_parameters
        if not parameter.is_option
    ]
    return " ".join(["popug", words, *arguments, *required, "[OPTIONS]"])


def describe(parameter: Parameter) -> str:
    """Return a parameter's help, with its choices, its default and whether it is required."""
    notes = []
    if (
        parameter.choices
        and "|".join(parameter.choices) != parameter.value
        and not all(choice in parameter.help for choice in parameter.choices)
    ):
        notes.append(", ".join(parameter.choices))
    if parameter.default and parameter.default not in {"None", "[]"}:
        notes.append(f"default: {parameter.default}")
    if parameter.required and parameter.is_option:
        notes.append("required")
    return " ".join([parameter.help, *(f"[{note}]" for note in notes)])


def name_of(parameter: Parameter) -> str:
    """Return the names and the value of a parameter, as a user types them."""
    if not parameter.is_option:
        return parameter.value
    names = ", ".join(sorted(parameter.names, key=len))
    return f"{names} {parameter.value}" if parameter.value else names


def _parameter_panels(command: CommandSpec) -> Iterator[Block]:
    own_parameters = [parameter for parameter in command.takes if not parameter.everywhere]
    yield from _panel("Arguments", (_term(parameter) for parameter in own_parameters if not parameter.is_option))
    yield from _panel("Options", (_term(parameter) for parameter in own_parameters if parameter.is_option))


def _common_options(words: str) -> Iterator[Parameter]:
    common = surface().commands[words].takes if words in surface().commands else surface().options
    yield from (parameter for parameter in common if parameter.everywhere or not words)
    yield Parameter(help="Show this help and exit.", names=("--help", "-h"))


def _command_panels(children: dict[str, CommandSpec | Group]) -> Iterator[Block]:
    for panel in surface().panels:
        rows = ((word, _first_sentence(child.help)) for word, child in children.items() if child.panel == panel)
        yield from _panel(panel, rows)


def _panel(title: str, rows: Iterable[tuple[str, str]]) -> Iterator[Panel]:
    terms = [*rows]
    if terms:
        yield Panel(title, terms)


def _term(parameter: Parameter) -> tuple[str, str]:
    return name_of(parameter), describe(parameter)


def _first_sentence(text: str) -> str:
    return text.partition("\n")[0].partition(". ")[0].rstrip(".") + "."

"""The command that prints the manual page."""

import subprocess
from collections.abc import Iterator
from shutil import which

import typer

from popug_cli.cli.context import CommandContext, add_commands, command
from popug_cli.cli.help.help import describe, name_of, usage
from popug_cli.cli.help.surface import FILE, CommandSpec, Parameter, surface
from popug_cli.cli.input.passwords import is_terminal

PAGE = FILE.with_name("popug.1")
EXITS = (
    ("0", "done, also when there was nothing to do"),
    ("1", "a fault of popug's own"),
    ("2", "wrong usage or invalid input"),
    ("3", "not found"),
    ("4", "not logged in, or the token is no good"),
    ("5", "not allowed"),
    ("6", "the present state does not allow it"),
    ("7", "an integrity check failed"),
    ("8", "not available now; nothing changed (unless the code is in_doubt), try again"),
    ("130", "interrupted; nothing half done"),
)
VARIABLES = (
    ("POPUG_HOME", "The company's directory; --home goes before it."),
    ("POPUG_SERVER", "The company's server; --server goes before it."),
    ("POPUG_TOKEN", "Who you are; goes before the session file."),
    ("POPUG_SESSION", "The session file; session.json in the user's configuration directory by default."),
    ("POPUG_PLAIN", "As if every command had --plain."),
    ("PAGER", "Shows lists that are longer than the screen."),
    ("NO_COLOR", "No colour."),
    ("POPUG_TRACEBACK", "Shows where a fault of popug's own happened."),
)

commands = typer.Typer()


def register(program: typer.Typer) -> None:
    """Add the command to the program."""
    add_commands(program, commands)


@command(commands, "man")
def man(context: CommandContext) -> None:
    """Show the manual page, or print its source where there is no terminal; `man popug` shows it, too."""
    if context.as_json:
        context.printer.document({"page": PAGE.read_text(encoding="utf-8")})
    elif context.printer.plain:
        context.printer.write(text())
    elif not (is_terminal() and context.printer.out.isatty()):
        context.printer.write(PAGE.read_text(encoding="utf-8"))
    elif which("man") is None or subprocess.run(["man", str(PAGE)], check=False).returncode:  # noqa: S603, S607
        context.printer.pages(text().split("\n"))


def roff() -> str:
    """The manual page in the language of man."""
    program = surface()
    lines = [
        '.TH POPUG 1 "" "popug" "User Commands"',
        ".SH NAME",
        f"popug \\- {_roff(program.help.partition(': ')[2])}",
    ]
    lines += [".SH SYNOPSIS", ".B popug", "[OPTIONS] COMMAND ..."]
    lines += [".SH DESCRIPTION", *_paragraphs(DESCRIPTION), ".SH OPTIONS", *_terms(program.options)]
    lines += [".SH COMMANDS"]
    for panel in program.panels:
        of_panel = {words: entry for words, entry in program.commands.items() if entry.panel == panel}
        if of_panel:
            lines += [f".SS {_roff(panel)}"]
            lines += [line for words, entry in of_panel.items() for line in _command(words, entry)]
    for title, pairs in (("ENVIRONMENT", VARIABLES), ("EXIT STATUS", EXITS)):
        lines += [f".SH {title}"]
        lines += [line for term, meaning in pairs for line in (".TP", f".B {_roff(term)}", _roff(meaning))]
    return "\n".join(_without_empty_paragraphs(lines)) + "\n"


def text() -> str:
    """The manual page as plain text, for a screen reader."""
    program = surface()
    lines = ["popug: manual", "", DESCRIPTION, ""]
    for words, entry in program.commands.items():
        lines += [usage(words), entry.help]
        lines += [
            f"{name_of(parameter)}: {describe(parameter)}" for parameter in entry.takes if not parameter.everywhere
        ]
        lines += [f"Example, {description} {line}" for line, description in entry.examples]
        lines += [""]
    return "\n".join(lines)


DESCRIPTION = (
    "Chance assigns the chores, every day is settled to the cent: whoever gets a task pays a fee for it, whoever"
    " completes it earns a reward, and at the end of the day everybody with money in hand is paid.\n\n"
    "popug alone shows your day, or how to begin. Every command takes --json, --plain, --home, --server and --help."
)


def _without_empty_paragraphs(lines: list[str]) -> Iterator[str]:
    """A heading or an indentation begins a paragraph of its own, and so does a display that is over."""
    for before, line in zip(["", *lines], lines, strict=False):
        if line != ".PP" or not before.startswith((".SH", ".SS", ".RS")):
            yield line


def _command(words: str, command: CommandSpec) -> Iterator[str]:
    yield from (".PP", f".B {_roff(usage(words))}", ".RS")
    yield from _paragraphs(command.help)
    yield from _terms(tuple(parameter for parameter in command.takes if not parameter.everywhere))
    for line, description in command.examples:
        yield from (".PP", _roff(description), ".RS", ".nf", _roff(f"$ {line}"), ".fi", ".RE")
    yield ".RE"


def _terms(parameters: tuple[Parameter, ...]) -> Iterator[str]:
    for parameter in parameters:
        yield from (".TP", f".B {_roff(name_of(parameter))}", _roff(describe(parameter)))


def _paragraphs(help_: str) -> Iterator[str]:
    for paragraph in help_.split("\n\n"):
        yield from (".PP", _roff(paragraph))


def _roff(plain: str) -> str:
    """Text that roff takes for nothing but text."""
    escaped = plain.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    escaped = escaped.replace("…", "...").replace("^", "\\(ha").replace("~", "\\(ti")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped

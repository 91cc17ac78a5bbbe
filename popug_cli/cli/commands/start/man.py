"""The command that prints the manual page."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import typer

from popug_cli.cli.context import CommandContext, add_commands, command
from popug_cli.cli.help.help import describe, name_of, usage
from popug_cli.cli.help.surface import FILE, CommandSpec, Parameter, surface
from popug_cli.cli.input.passwords import is_terminal

PAGE = Path(FILE).with_name("popug.1")
EXIT_STATUSES = (
    ("0", "done, also when there was nothing to do"),
    ("1", "an internal error of popug"),
    ("2", "wrong usage or invalid input"),
    ("3", "not found"),
    ("4", "not logged in, or the token is not valid"),
    ("5", "not allowed"),
    ("6", "the current state does not allow it"),
    ("7", "an integrity check failed"),
    ("8", "not available now; nothing changed (unless the code is in_doubt), try again"),
    ("130", "interrupted; nothing is half done"),
)
VARIABLES = (
    ("POPUG_HOME", "The company's directory; --home overrides it."),
    ("POPUG_SERVER", "The company's server; --server overrides it."),
    ("POPUG_TOKEN", "Your token; it overrides the session file."),
    ("POPUG_SESSION", "The session file; by default session.json in the user's configuration directory."),
    ("POPUG_PLAIN", "If set, every command behaves as with --plain."),
    ("PAGER", "The program that shows lists longer than the screen."),
    ("NO_COLOR", "If set, the output has no colour."),
    ("FORCE_COLOR", "If set, the output has colour even without a terminal, or with 0 or false has none."),
    ("POPUG_TRACEBACK", "If set, errors print a traceback."),
)

commands = typer.Typer()


def register(program: typer.Typer) -> None:
    """Add the command to the program."""
    add_commands(program, commands)


@command(commands, "man")
def man(context: CommandContext) -> None:
    """Show the manual page, as `man popug` does; with --plain print its text, without a terminal its source."""
    if context.as_json:
        context.printer.document({"page": PAGE.read_text(encoding="utf-8")})
    elif context.printer.plain:
        context.printer.write(plain_text())
    elif not (is_terminal() and context.printer.out.isatty()):
        context.printer.write(PAGE.read_text(encoding="utf-8"))
    elif which("man") is None or subprocess.run(["man", str(PAGE)], check=False).returncode:  # noqa: S603, S607
        context.printer.pages(plain_text().split("\n"))


def roff() -> str:
    """Return the manual page as roff source."""
    program = surface()
    lines = [
        '.TH POPUG 1 "" "popug" "User Commands"',
        ".SH NAME",
        f"popug \\- {_escape_roff(program.help.partition(': ')[2])}",
    ]
    lines += [".SH SYNOPSIS", ".B popug", "[OPTIONS] COMMAND ..."]
    lines += [".SH DESCRIPTION", *_paragraphs(DESCRIPTION), ".SH OPTIONS", *_terms(program.options)]
    lines += [".SH COMMANDS"]
    for panel in program.panels:
        panel_commands = {words: entry for words, entry in program.commands.items() if entry.panel == panel}
        if panel_commands:
            lines += [f".SS {_escape_roff(panel)}"]
            lines += [line for words, entry in panel_commands.items() for line in _command(words, entry)]
    for title, pairs in (("ENVIRONMENT", VARIABLES), ("EXIT STATUS", EXIT_STATUSES)):
        lines += [f".SH {title}"]
        lines += [
            line for term, meaning in pairs for line in (".TP", f".B {_escape_roff(term)}", _escape_roff(meaning))
        ]
    return "\n".join(_without_empty_paragraphs(lines)) + "\n"


def plain_text() -> str:
    """Return the manual page as plain text, for screen readers."""
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
    "Chance assigns the chores, and every day is settled to the cent. The assignee of a task pays a fee for it and"
    " earns a reward for completing it. At the end of the day every positive balance is paid out.\n\n"
    "popug without a command shows your day, or how to start. Every command takes --json, --plain, --home,"
    " --server and --help."
)


def _without_empty_paragraphs(lines: list[str]) -> Iterator[str]:
    """Drop each .PP after .SH, .SS or .RS, which begin a paragraph themselves."""
    for previous_line, line in zip(["", *lines], lines, strict=False):
        if line != ".PP" or not previous_line.startswith((".SH", ".SS", ".RS")):
            yield line


def _command(words: str, command: CommandSpec) -> Iterator[str]:
    yield from (".PP", f".B {_escape_roff(usage(words))}", ".RS")
    yield from _paragraphs(command.help)
    yield from _terms(tuple(parameter for parameter in command.takes if not parameter.everywhere))
    for line, description in command.examples:
        yield from (".PP", _escape_roff(description), ".RS", ".nf", _escape_roff(f"$ {line}"), ".fi", ".RE")
    yield ".RE"


def _terms(parameters: tuple[Parameter, ...]) -> Iterator[str]:
    for parameter in parameters:
        yield from (".TP", f".B {_escape_roff(name_of(parameter))}", _escape_roff(describe(parameter)))


def _paragraphs(help_: str) -> Iterator[str]:
    for paragraph in help_.split("\n\n"):
        yield from (".PP", _escape_roff(paragraph))


def _escape_roff(plain: str) -> str:
    """Escape text so that roff prints it literally."""
    escaped = plain.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    escaped = escaped.replace("…", "...").replace("^", "\\(ha").replace("~", "\\(ti")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped

"""The generated parts of the guides: ``python -m tests.generate`` writes them.

``GENERATED`` names the function that makes the text between ``<!-- NAME -->`` and ``<!-- /NAME -->``.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from popug_cli.cli.commands.start.man import EXIT_STATUSES, VARIABLES
from popug_cli.cli.help.help import name_of
from popug_cli.cli.help.surface import surface
from popug_cli.cli.output.printer import Printer
from popug_cli.cli.program import build
from popug_cli.kernel.errors import InvalidInput
from popug_cli.messages.base import Access, Declaration, Role, declarations
from popug_cli.tasks.rules import parse_title
from tests.generate.surface import FOR_ANYBODY

README = Path(__file__).parents[2] / "README.md"
GUIDES = README.parent / ".github"
COMMANDS, OPERATING, CONTRIBUTING, ARCHITECTURE, GLOSSARY, CLUSTER = (
    GUIDES / f"{name}.md" for name in ("COMMANDS", "OPERATING", "CONTRIBUTING", "ARCHITECTURE", "GLOSSARY", "CLUSTER")
)
PAGES = (README, OPERATING, CONTRIBUTING, COMMANDS, ARCHITECTURE, GLOSSARY, CLUSTER)
IN_THE_CLUSTER = "in the cluster"
ROLES = (Role.WORKER, Role.ACCOUNTANT, Role.MANAGER, Role.ADMIN)
SENT_AS = {"events follow": "events list", "dashboard": "tasks list"}
OPERATING_A_CLUSTER = {f"cluster {word}" for word in ("backup", "doctor", "init", "republish", "restore", "status")}
OWN_HOME = {"demo", "scheduler install", "serve", "serve install", *OPERATING_A_CLUSTER}
EVERYWHERE = {"--json", "--plain", "--home", "--server", "--help"}
FENCED = re.compile(
    r"(?:^<!-- (?P<note>[^\n]*) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """A fenced block and the comment on the line before it."""

    language: str
    text: str
    note: str
    line: int


def blocks(text: str) -> list[Block]:
    """Return every fenced block of a page."""
    return [
        Block(match["language"], match["text"], match["note"] or "", text.count("\n", 0, match.start("text")))
        for match in FENCED.finditer(text)
    ]


def program() -> Iterator[tuple[str, Any]]:
    """Yield every command that is not hidden, with its words after ``popug``, in the order of the help."""
    yield from _below("", build(), click.Context(build()))


def _below(path: str, group: Any, context: click.Context) -> Iterator[tuple[str, Any]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        words = f"{path} {name}".strip()
        if command.hidden:
            continue
        if getattr(command, "invoke_without_command", False):
            yield words, command
        if hasattr(command, "commands"):
            yield from _below(words, command, click.Context(command, parent=context, info_name=name))
        else:
            yield words, command


def commands() -> str:
    """Return the table of commands."""
    lines = ["| command | what it does |", "| --- | --- |"]
    for words, command in program():
        usage = " ".join([words, *_usage(command)]).replace("|", "\\|")
        lines.append(f"| `{usage}` | {_first_sentence(command.help or '')} |")
    return "\n".join(lines)


def _usage(command: Any) -> Iterator[str]:
    context = click.Context(command)
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            yield _argument(parameter)
        elif not EVERYWHERE & set(parameter.opts) and not parameter.hidden:
            yield _option(parameter, context)


def _argument(parameter: Any) -> str:
    metavar = (parameter.metavar or parameter.name).upper().strip("[]")
    return metavar if parameter.required else f"[{metavar}]"


def _option(parameter: Any, context: click.Context) -> str:
    name = max(parameter.opts, key=len)
    value = "" if parameter.is_flag else " " + _value(parameter, context)
    return f"{name}{value}" if parameter.required else f"[{name}{value}]"


def _value(parameter: Any, context: click.Context) -> str:
    if parameter.metavar or hasattr(parameter.type, "choices"):
        return str(parameter.make_metavar(context)).strip("[]<>")
    kind = parameter.type.name
    return "N" if kind.startswith("int") else "PATH" if kind == "path" else str(parameter.name).strip("_").upper()


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", " ".join(text.split()), maxsplit=1)[0]


def options() -> str:
    """Return the table of options that every command takes, or popug itself."""
    lines = ["| option | meaning |", "| --- | --- |"]
    for option in surface().options:
        of = "" if option.everywhere else " (without a command)"
        lines.append(f"| `{name_of(option)}`{of} | {option.help} |")
    return "\n".join(lines)


def variables() -> str:
    """Return the table of environment variables."""
    rows = [f"| `{name}` | {meaning} |" for name, meaning in VARIABLES]
    return "\n".join(["| variable | meaning |", "| --- | --- |", *rows])


def exit_codes() -> str:
    """Return the table of exit codes."""
    rows = [f"| {code} | {meaning.replace('in_doubt', '`in_doubt`')} |" for code, meaning in EXIT_STATUSES]
    return "\n".join(["| code | meaning |", "| --- | --- |", *rows])


def error_document() -> str:
    """Return an error as ``--json`` prints it, on several lines."""
    err = io.StringIO()
    try:
        parse_title("[POPUG-7 Feed the cage")
    except InvalidInput as error:
        Printer(err=err).error(error, as_json=True)
    return f"```json\n{msgspec.json.format(err.getvalue(), indent=2)}\n```"


def permissions() -> str:
    """Return the table of permissions, one row for the commands that the same roles may run."""
    commands = dict(program())
    rows: dict[tuple[str, ...], list[str]] = {}
    for words in commands:
        line = SENT_AS.get(words, words)
        of_command = [
            declaration
            for declaration in declarations()
            if declaration.command_line == line and declaration.access is Access.TOKEN
        ]
        if of_command:
            rows.setdefault(tuple(_may(of_command, role) for role in ROLES), []).append(words)
    lines = [f"| may run | {' | '.join(ROLES)} |", "| --- |" + " --- |" * len(ROLES)]
    for answers, allowed in sorted(rows.items(), key=lambda row: [answer or "~" for answer in row[0]], reverse=True):
        lines.append(f"| {_listed(allowed)} | {' | '.join(answers)} |")
    return "\n".join(lines)


def _may(of_command: list[Declaration], role: Role) -> str:
    if not any(role in declaration.roles for declaration in of_command):
        return ""
    limited = any(
        "username" in declaration.message.__struct_fields__ and role not in declaration.roles_for_others
        for declaration in of_command
    )
    return "own" if limited else "yes"


def without_token() -> str:
    """Return the sentences about commands that need no token."""
    commands = dict(program())
    lines = {
        access: {declaration.command_line for declaration in declarations() if declaration.access is access}
        for access in Access
    }
    anyone = [words for words in commands if words in lines[Access.PUBLIC] | FOR_ANYBODY]
    operator = [words for words in commands if words in lines[Access.OPERATOR] | OWN_HOME]
    return (
        f"These commands need no token: {_listed(anyone)}.\n\n"
        f"The operator's commands need access to the home on disk, and no token: {_listed(operator)}."
    )


def _listed(commands: list[str]) -> str:
    return ", ".join(f"`{command}`" for command in commands)


GENERATED = {
    "commands": (COMMANDS, commands),
    "options": (COMMANDS, options),
    "variables": (COMMANDS, variables),
    "exit codes": (COMMANDS, exit_codes),
    "error document": (COMMANDS, error_document),
    "permissions": (OPERATING, permissions),
    "without token": (OPERATING, without_token),
}


def renewed(file: Path) -> str:
    """Return the text of a page with its generated parts made again."""
    text = file.read_text(encoding="utf-8")
    for name, (page, make) in GENERATED.items():
        if page != file:
            continue
        start, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        assert rest, f"{file.name} has no place for {name}"
        text = before + start + make() + end + after
    return text

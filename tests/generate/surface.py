"""The surface of the program as its commands define it: the content of ``surface.json``."""

import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import click
import msgspec

from popug_cli import messages
from popug_cli.cli.context import COMMON_OPTIONS
from popug_cli.cli.help.surface import FILE, CommandSpec, Group, Parameter, Surface
from popug_cli.cli.program import build
from popug_cli.messages.base import Access, Role, declarations

for module in iter_modules(messages.__path__):
    import_module(f"{messages.__name__}.{module.name}")

GUIDE = Path(FILE).with_name("guide.toml")
START = "Start here"
PANELS = {
    START: None,
    "All users": frozenset(Role),
    "Managers and admins": frozenset({Role.MANAGER, Role.ADMIN}),
    "Accountants and admins": frozenset({Role.ACCOUNTANT, Role.ADMIN}),
    "Admins": frozenset({Role.ADMIN}),
    "Without a login": None,
    "The operator, on the machine of the home": None,
}
START_WITH = ("init", "demo", "login", "today")
SENT_AS = {"events follow": "events list", "dashboard": "tasks list"}
FOR_ANYBODY = {"man"}
COMPLETES = {
    "NUMBER": "task",
    "NAME": "person",
    "ASSIGNEE": "player",
    "DATE": "day",
    "DATE_OR_TIME": "day",
    "DATE|today|yesterday": "date",
    "WHEN": "day",
    "FILE": "file",
    "PATH": "file",
    "DIR": "directory",
    "TZ": "zone",
    "SHUFFLE_ID": "shuffle",
    "KEY": "setting",
    "TYPE": "event",
}
EXCEPTIONS = {
    ("task complete", "number"): "own-task",
    ("init", "admin"): "",
    ("user add", "name"): "",
    ("hooks test", "name"): "hook",
    ("hooks retry", "name"): "hook",
    ("config set", "value"): "setting-value",
    ("serve", "group"): "",
    ("serve install", "group"): "",
    ("tasks list", "assignee"): "player",
    ("tasks list", "creator"): "player",
    ("token issue", "name"): "person",
}
ROLES = {("user add", "role"), ("user set-role", "role")}


def generated() -> Surface:
    """Make the surface from the commands."""
    program, guides = build(), tomllib.loads(GUIDE.read_text(encoding="utf-8"))
    commands: dict[str, CommandSpec] = {}
    groups: dict[str, Group] = {}
    for words, command in _below("", program, click.Context(program)):
        if hasattr(command, "commands"):
            groups[words] = Group(_text(command.help), _panel_of_group(words, commands))
        if not hasattr(command, "commands") or command.invoke_without_command:
            guide = guides.get(words, {"examples": ()})
            examples = tuple(map(tuple, guide["examples"]))
            takes, then = _takes(words, command), guide.get("then", "")
            commands[words] = CommandSpec(_text(command.help), _panel(words), takes, examples, then)
    return Surface(_text(program.help), tuple(PANELS), _takes("", program), groups, commands)


def document() -> str:
    """Return the text of ``surface.json``."""
    return msgspec.json.format(msgspec.json.encode(_without_defaults(generated())), indent=1).decode() + "\n"


def _without_defaults(part: Any) -> Any:
    """Return the objects of a part of the surface, without the fields that have their defaults."""
    if isinstance(part, dict):
        return {name: _without_defaults(value) for name, value in part.items()}
    if not isinstance(part, tuple):
        return part
    defaults: dict[str, Any] | None = getattr(part, "_field_defaults", None)
    if defaults is None:
        return [_without_defaults(value) for value in part]
    fields = zip(part._fields, part, strict=True)  # type: ignore[attr-defined]
    return {name: _without_defaults(value) for name, value in fields if defaults.get(name) != value}


def _below(path: str, group: Any, context: click.Context) -> Iterator[tuple[str, Any]]:
    for name in group.list_commands(context):
        command, words = group.get_command(context, name), f"{path} {name}".strip()
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from _below(words, command, click.Context(command, parent=context, info_name=name))
        yield words, command


def _text(help_: str | None) -> str:
    return "\n\n".join(" ".join(part.split()) for part in (help_ or "").split("\n\n"))


def _takes(words: str, command: Any) -> tuple[Parameter, ...]:
    return tuple(
        _parameter(words, parameter)
        for parameter in command.params
        if not parameter.hidden and "--help" not in parameter.opts
    )


def _parameter(words: str, parameter: Any) -> Parameter:
    is_option = parameter.param_type_name == "option"
    choices = tuple(map(str, getattr(parameter.type, "choices", ())))
    if (words, parameter.name) in ROLES:
        choices = tuple(Role)
    value = "" if is_option and parameter.is_flag else _value(parameter, choices)
    completes = EXCEPTIONS.get((words, parameter.name))
    return Parameter(
        help=parameter.help or "",
        names=tuple(parameter.opts) if is_option else (),
        value=value,
        required=bool(parameter.required),
        default="" if parameter.default is None or not value else str(parameter.default),
        choices=choices,
        completes=COMPLETES.get(value.strip("[]"), "") if completes is None else completes,
        everywhere=parameter.name in COMMON_OPTIONS,
    )


def _value(parameter: Any, choices: tuple[str, ...]) -> str:
    if parameter.metavar:
        return str(parameter.metavar).strip("[]")
    if choices:
        return "|".join(choices)
    kind = parameter.type.name
    return "N" if kind.startswith("int") else "PATH" if kind == "path" else str(parameter.name).strip("_").upper()


def _roles(words: str) -> frozenset[Role]:
    line = SENT_AS.get(words, words)
    guarded = [
        declaration.roles
        for declaration in declarations()
        if declaration.command_line == line and declaration.access is Access.TOKEN
    ]
    return frozenset.intersection(*guarded) if guarded else frozenset()


def _panel(words: str) -> str:
    if words in START_WITH:
        return START
    roles = _roles(words)
    if roles:
        return next(name for name, may in PANELS.items() if may == roles)
    lines = {
        declaration.command_line for declaration in declarations() if declaration.access is Access.PUBLIC
    } | FOR_ANYBODY
    return list(PANELS)[-2 if words in lines else -1]


def _panel_of_group(words: str, commands: dict[str, CommandSpec]) -> str:
    """Return the section of a group: the one of the roles that may run most of its commands."""
    panels = [command.panel for path, command in commands.items() if f"{path} ".startswith(f"{words} ")]
    return max(PANELS, key=panels.count) if panels else _panel(words)

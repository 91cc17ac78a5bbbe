"""Commands for the whole company: settings, permissions, health checks."""

from collections.abc import Iterator
from typing import Annotated

import typer

from popug_cli.cli.context import CommandContext, add_commands, command
from popug_cli.cli.output.blocks import Block, Column, Hint, Table
from popug_cli.kernel.errors import IntegrityViolation
from popug_cli.kernel.text import counted
from popug_cli.messages.base import Access, Role
from popug_cli.messages.company import (
    Check,
    CheckHealth,
    Health,
    PermissionLine,
    Permissions,
    SetSetting,
    SettingList,
    ShowPermissions,
    ShowSettings,
)

commands = typer.Typer()
config = typer.Typer(help="Show and change the settings of the home.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    add_commands(program, commands)
    program.add_typer(config, name="config")


@command(config, "show")
def show(context: CommandContext) -> None:
    """Show every setting, its value and the source of the value."""
    settings = context.backends.perform(ShowSettings())
    context.screen.show(settings, lambda: _setting_blocks(settings))


@command(config, "set")
def set_(
    context: CommandContext,
    key: Annotated[str, typer.Argument(help="The setting, such as mail.transport.")],
    value: Annotated[str, typer.Argument(help="The new value.")],
) -> None:
    """Write a setting to the home's config.toml."""
    settings = context.backends.perform(SetSetting(key=key, value=value))
    written = next(line for line in settings.settings if line.key == key)
    context.screen.show(settings, lambda: [f"{key} is now {_value_text(written.value)} (from {written.source})."])


@command(commands, "doctor")
def doctor(
    context: CommandContext,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 7 also if anything needs attention.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show only what is wrong or needs attention.")] = False,
) -> None:
    """Check all invariants of the ledger and the log; exit 7 if one is violated."""
    health = context.backends.perform(CheckHealth())
    context.screen.show(health, lambda: _finding_blocks(health) if quiet else _health_blocks(health))
    if not health.ok or (strict and health.attention):
        raise typer.Exit(IntegrityViolation.exit_status)


@command(commands, "permissions")
def permissions(context: CommandContext) -> None:
    """Show which roles may run which command."""
    answer = context.backends.perform(ShowPermissions())
    context.screen.show(answer, lambda: [_permission_table(answer)])


def _setting_blocks(settings: SettingList) -> Iterator[Block]:
    columns = [Column("setting"), Column("value"), Column("from"), Column("purpose", shrinks=True)]
    rows = [[line.key, _value_text(line.value), line.source, line.help] for line in settings.settings]
    yield f"Home {settings.home}, time zone {settings.time_zone}"
    yield Table(columns, rows)


def _value_text(value: str | int | bool) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _health_blocks(health: Health) -> Iterator[Block]:
    rows = [[_state(check), check.name, check.detail] for check in health.checks]
    yield Table([Column(""), Column("check"), Column("detail", shrinks=True)], rows)
    yield from _finding_blocks(health)
    failed_count = sum(not check.ok for check in health.checks)
    attention_count = sum(check.attention for check in health.checks)
    attention = f"{counted(attention_count, 'check needs', 'checks need')} attention" if attention_count else ""
    if not failed_count:
        passed = f"All {counted(len(health.checks), 'check')} passed"
        yield f"{passed}, but {attention}." if attention else f"{passed}."
    else:
        failed = f"{failed_count} of {counted(len(health.checks), 'check')} failed"
        yield f"{failed}, and {attention}." if attention else f"{failed}."
    yield f"Head of the hash chain: {health.head}"
    if failed_count:
        yield Hint("Keep a copy of the home as it is; backups/ may hold a good one.")


def _finding_blocks(health: Health) -> Iterator[Block]:
    """Yield a line for each check that failed or needs attention."""
    for check in health.checks:
        if not check.ok or check.attention:
            yield f"{_state(check)} {check.name}: {check.detail}"


def _state(check: Check) -> str:
    return "WRONG" if not check.ok else "ATTENTION" if check.attention else "ok"


def _permission_table(answer: Permissions) -> Table:
    """Return a table with a row for each command. A role may run it if it may send all messages of the command."""
    columns = [Column("command"), Column("allowed to"), Column("for other users"), Column("token scope")]
    commands: dict[str, list[PermissionLine]] = {}
    for line in answer.permissions:
        commands.setdefault(line.command, []).append(line)
    return Table(columns, [_command_row(command, lines) for command, lines in sorted(commands.items())])


def _command_row(command: str, lines: list[PermissionLine]) -> list[str]:
    token_lines = [line for line in lines if line.access is Access.TOKEN]
    if not token_lines:
        return [command, "anyone" if lines[0].access is Access.PUBLIC else "the operator", "", ""]
    allowed_roles = [role for role in Role if all(role in line.roles for line in token_lines)]
    roles_for_others = [role for role in allowed_roles if any(role in line.others for line in token_lines)]
    scopes = {scope for line in token_lines for scope in line.scopes}
    roles_text = "all roles" if len(allowed_roles) == len(Role) else ", ".join(allowed_roles)
    return [command, roles_text, ", ".join(roles_for_others), ", ".join(sorted(scopes))]

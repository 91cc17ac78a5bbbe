"""Settings and permissions: show them, and change a setting."""

import os
import shlex
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING

from popug_cli.app.workflows import server_backup
from popug_cli.kernel import settings_file
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.home import replace_restoring_on_error
from popug_cli.kernel.settings import DATABASE_URL, REPLICA_URL, SETTINGS, find_setting, read_settings
from popug_cli.messages.base import Role, declarations
from popug_cli.messages.company import (
    PermissionLine,
    Permissions,
    SetSetting,
    SettingLine,
    SettingList,
    ShowPermissions,
    ShowSettings,
)
from popug_cli.messages.identity import SettingChanged
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend


def show_settings(backend: "LocalBackend", message: ShowSettings, principal: Principal) -> SettingList:
    """Return every setting with its value and the source of the value; warn of invalid values and unknown keys."""
    time_zone = backend.runtime.calendar.time_zone  # first, so that an error about the home precedes warnings
    settings = read_settings(backend.home.config)
    if settings.warning:
        backend.warn(settings.warning)
    return SettingList(
        home=str(backend.home.root),
        time_zone=time_zone,
        settings=[
            SettingLine(key, setting.shown(settings.values[key]), settings.sources[key], setting.help)
            for key, setting in sorted(SETTINGS.items())
        ],
    )


def set_setting(backend: "LocalBackend", message: SetSetting, principal: Principal) -> SettingList:
    """Write one setting to the file, keep the rest of the file, and publish ``setting_changed``.

    Raise ``unknown_setting``, ``invalid_setting`` for the value or for a file that cannot be changed, ``invalid_url``,
    or ``usage`` for a backup of PostgreSQL.
    """
    import tomlkit

    from popug_cli.mail.setting_checks import check_hello_name, check_sender

    setting = find_setting(message.key)
    value = setting.parse(message.value)
    if setting.key == "mail.from":
        check_sender(str(value))
    if setting.key == "mail.smtp_hello_name":
        check_hello_name(str(value))
    if setting.key in {DATABASE_URL, REPLICA_URL} and value:
        _check_url(str(value))
    if setting.key == "scheduler.backup" and value and backend.runtime.database.is_shared:
        raise server_backup.refused("scheduler.backup")
    file = backend.home.config
    with backend.runtime.writing(principal) as context:
        text = settings_file.read_text(file)
        settings_file.parse(file, text)
        document = tomlkit.parse(text)
        table_name, _, name = message.key.partition(".")
        table = document.setdefault(table_name, tomlkit.table())
        if not isinstance(table, MutableMapping):
            line = settings_file.line_of(table_name, text)
            sentence = f"{file}{f', line {line}' if line else ''}: {table_name} is a value, but must be a table."
            raise InvalidInput("invalid_setting", sentence, hint="Remove that line, then try again.")
        table[name] = value
        _require_directory(file)
        context.on_rollback.enter_context(replace_restoring_on_error(file, tomlkit.dumps(document).encode()))
        context.events.publish(SettingChanged(key=message.key, value=setting.shown(value)))
    return show_settings(backend, ShowSettings(), principal)


def _check_url(url: str) -> None:
    """Raise ``invalid_url``, or ``database_unavailable`` if psycopg is not installed; do not connect."""
    from popug_cli.storage.postgres import require_driver

    require_driver()
    from popug_cli.storage.postgres.url import connection_parameters

    connection_parameters(url)


def _require_directory(file: Path) -> None:
    """Raise ``invalid_setting`` if the file is a link into a directory that does not exist."""
    directory = Path(os.path.realpath(file)).parent
    if not directory.exists():
        hint = f"Run `mkdir -p {shlex.quote(str(directory))}`, or remove the link."
        sentence = f"{file} is a link into {directory}, which does not exist."
        raise InvalidInput("invalid_setting", sentence, hint=hint, details={"file": str(file)})


def show_permissions(backend: "LocalBackend", message: ShowPermissions, principal: Principal) -> Permissions:
    """Return which roles may send which message, from the declarations."""
    return Permissions(
        [
            PermissionLine(
                message=declaration.name,
                command=declaration.command_line,
                access=declaration.access,
                roles=[role for role in Role if role in declaration.roles],
                others=[role for role in Role if role in declaration.roles_for_others and declaration.has_username],
                scopes=sorted(declaration.scopes),
            )
            for declaration in declarations()
        ]
    )

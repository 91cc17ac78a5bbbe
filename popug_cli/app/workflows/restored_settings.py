"""The settings of a restored home: those of the backup, except for mail, where the home keeps its own.

A backup from another machine, or of another author, would otherwise decide which server receives the payslips.
"""

import shlex
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from popug_cli.kernel import settings_file
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.home import Home
from popug_cli.kernel.settings import SETTINGS
from popug_cli.messages.company import SettingDifference
from popug_cli.platform.files import read_regular_file, replace_file

MAIL = "mail"


def merge(home: Home, fresh: Home, *, take_mail: bool) -> list[SettingDifference]:
    """Put the home's own settings of mail into the fresh home, and return how the settings of both differ.

    A new home has no settings of its own and takes all of the backup. Raise ``invalid_setting`` if the
    home's file cannot be read and its settings of mail are needed.
    """
    keeps_mail = (home.database.exists() or home.config.exists()) and not take_mail
    own, backup = _read_own(home.config, is_needed=keeps_mail), _parse(fresh.config)
    differences = list(_differences(own, backup, keeps_mail=keeps_mail))
    if any(difference.kept for difference in differences):
        _replace_mail(fresh.config, own.get(MAIL))
    return differences


def keep_link(home: Home, fresh: Home) -> str | None:
    """If the home's settings file is a link, put the link into the fresh home, provided that the settings are the same.

    Return a sentence if they differ. The target of the link also belongs to the old home, so it is not changed.
    """
    if not home.config.is_symlink():
        return None
    target = home.config.readlink()
    with suppress(OSError, ValueError):
        if _parse(home.config) == _parse(fresh.config):
            fresh.config.unlink(missing_ok=True)
            fresh.config.symlink_to(target)
            return None
    return (
        f"{home.config} is no longer a link: {target} has the settings from before the restore, and the restored ones"
        f" are in {home.config} itself. To use the link again, run `ln -sf {shlex.quote(str(target))}"
        f" {shlex.quote(str(home.config))}`."
    )


def _read_own(file: Path, *, is_needed: bool) -> dict[str, Any]:
    try:
        return _parse(file)
    except (OSError, ValueError) as error:
        if not is_needed:
            return {}
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidInput(
            "invalid_setting",
            f"The home's own settings of mail cannot be kept, because {file} cannot be read: {reason}.",
            hint="Correct the file, or take those of the backup: `popug restore FILE --mail-settings`.",
            details={"path": str(file)},
        ) from error


def _parse(file: Path) -> dict[str, Any]:
    """Return the tables of a settings file, or none if it does not exist; raise ``OSError`` or ``ValueError``."""
    if not file.exists():
        return {}
    content, _ = read_regular_file(file)
    return tomllib.loads(content.decode("utf-8-sig"))


def _differences(own: Mapping[str, Any], backup: Mapping[str, Any], *, keeps_mail: bool) -> list[SettingDifference]:
    own_values, backup_values = _shown_values(own), _shown_values(backup)
    return [
        SettingDifference(
            key,
            own_values.get(key),
            backup_values.get(key),
            kept=keeps_mail and (key == MAIL or key.startswith(f"{MAIL}.")),
        )
        for key in sorted(own_values.keys() | backup_values.keys())
        if own_values.get(key) != backup_values.get(key)
    ]


def _shown_values(tables: Mapping[str, Any]) -> dict[str, str | int | bool]:
    """Return the values by their dotted keys; those of types that no setting has, such as dates, as text."""
    return {
        key: _shown(key, value if isinstance(value, str | int | bool) else str(value))
        for key, value in settings_file.flatten(tables).items()
    }


def _shown(key: str, value: str | int | bool) -> str | int | bool:
    return SETTINGS[key].shown(value) if key in SETTINGS else value


def _replace_mail(file: Path, own_mail: Any) -> None:
    """Replace the table of mail in a settings file, and keep the rest of the file with its comments."""
    import tomlkit

    document = tomlkit.parse(file.read_text(encoding="utf-8-sig") if file.exists() else "")
    document.pop(MAIL, None)
    if own_mail is not None:
        document[MAIL] = tomlkit.item(own_mail)
    text = tomlkit.dumps(document)
    expected = {key: value for key, value in _parse(file).items() if key != MAIL}
    if own_mail is not None:
        expected[MAIL] = own_mail
    if tomllib.loads(text) != expected:  # tomlkit may mishandle a table that is split into parts
        text = tomlkit.dumps(expected)
    replace_file(file, text.encode())

"""Backups: a snapshot of the database with the settings, verified by the doctor before the file gets its name."""

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from popug_cli.app.views.health import KEYS_CHECK
from popug_cli.app.workflows import server_backup
from popug_cli.kernel.errors import Conflict, IntegrityViolation
from popug_cli.kernel.home import Home
from popug_cli.messages.company import BackUp, Backup, CheckHealth, Health
from popug_cli.messages.principal import Principal
from popug_cli.platform import files
from popug_cli.platform.files import OWNER_ONLY_DIRECTORY
from popug_cli.storage import backup_file, temporary_home
from popug_cli.storage.backup_reader import MAX_SETTINGS_BYTES
from popug_cli.storage.errors import translate_errors

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend


def back_up(backend: "LocalBackend", message: BackUp, principal: Principal) -> Backup:
    """Write a backup to a new file.

    Raise ``file_exists``, ``unwritable_file``, ``usage`` for a company on PostgreSQL, or ``integrity`` if the copy
    fails a health check.
    """
    if backend.runtime.database.is_shared:
        raise server_backup.refused("popug backup")
    backend.catch_up(completely=True)
    path = Path(os.path.abspath(Path(message.path).expanduser())) if message.path else _default_path(backend)
    _refuse_existing(path)
    for sentence in temporary_home.clear_homes(path.parent):
        backend.warn(sentence)
    with translate_errors(backend.home.database), temporary_home.temporary_home(path, _note_directory(backend)) as copy:
        backup_file.copy_database(backend.home.database, copy.database)
        _copy_settings(backend, copy)
        packed = copy.root / "packed"
        backup_file.pack(copy, packed)
        verify(backend, copy)
        _refuse_existing(path)
        packed.replace(path)
        try:
            files.sync(path.parent)
        except OSError:
            path.unlink(missing_ok=True)
            raise
    return Backup(str(path), path.stat().st_size)


def _copy_settings(backend: "LocalBackend", copy: Home) -> None:
    """Copy the settings, if there are any; a directory, pipe or unreadable file in their place is left out."""
    try:
        content, status = files.read_regular_file(backend.home.config)
        if status.st_size > MAX_SETTINGS_BYTES:
            raise OSError(errno.EFBIG, f"it is larger than {MAX_SETTINGS_BYTES // 1024:,} KiB")
    except FileNotFoundError:
        return
    except OSError as error:
        reason = error.strerror or str(error)
        backend.warn(f"The backup has no settings, because {backend.home.config} cannot be read: {reason}.")
        return
    copy.config.write_bytes(content)


def verify(backend: "LocalBackend", copy: Home, *, is_file_checked: bool = False) -> None:
    """Run the health checks on a copy, which has no keys; raise ``integrity`` if a check other than the keys' fails.

    They leave out the check of the database file if it ``is_file_checked``.
    """
    copy_backend = backend.for_home(copy)
    copy_backend.is_file_checked = is_file_checked
    try:
        health: Health = copy_backend.perform(CheckHealth())
    finally:
        copy_backend.close()
    failed_check = next((check for check in health.checks if not check.ok and check.name != KEYS_CHECK), None)
    if failed_check is not None:
        raise IntegrityViolation(
            "integrity",
            f"The copy is not healthy: {failed_check.name}: {failed_check.detail}",
            hint="Nothing was changed. Run `popug doctor` to see all problems.",
            details={"check": failed_check.name},
        )


def _default_path(backend: "LocalBackend") -> Path:
    with translate_errors(backend.home.database):
        backend.home.backups.mkdir(mode=OWNER_ONLY_DIRECTORY, exist_ok=True)
        files.check_writable(backend.home.backups)
    return backend.home.backups / f"popug-{backend.runtime.clock.now():%Y%m%dT%H%M%S%fZ}.zip"


def _note_directory(backend: "LocalBackend") -> Path | None:
    """Return where a later process looks for links to temporary homes of killed backups; None if it is not writable."""
    return backend.home.backups if os.access(backend.home.backups, os.W_OK) else None


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise Conflict(
            "file_exists",
            f"{path} already exists.",
            hint="Name another file; a backup never replaces one.",
            details={"path": str(path)},
        )

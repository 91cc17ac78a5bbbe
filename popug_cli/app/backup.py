"""Backups: one instant of the database and the settings, verified by the doctor before it is called a backup."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from popug_cli.app.health import KEYS
from popug_cli.kernel import disk
from popug_cli.kernel.errors import Conflict, IntegrityFault
from popug_cli.kernel.home import OWNER_ONLY_DIRECTORY, Home
from popug_cli.messages.company import BackUp, Backup, CheckHealth, Health
from popug_cli.messages.principal import Principal
from popug_cli.storage import archive
from popug_cli.storage.faults import translated

if TYPE_CHECKING:
    from popug_cli.app.local import Local


def back_up(place: "Local", message: BackUp, principal: Principal) -> Backup:
    """Write a new file; raises ``file_exists``, ``unwritable_file``, or ``integrity`` where the copy is not healthy."""
    place.catch_up()
    path = Path(os.path.abspath(Path(message.path).expanduser())) if message.path else _next_path(place)
    _refuse_existing(path)
    with translated(place.home.database), archive.workplace(path) as copy:
        archive.copy_database(place.home.database, copy.database)
        if place.home.config.exists():
            shutil.copyfile(place.home.config, copy.config)
        packed = copy.root / "packed"
        archive.pack(copy, packed)
        verify(place, copy)
        _refuse_existing(path)
        packed.replace(path)
        try:
            disk.sync(path.parent)
        except OSError:
            path.unlink(missing_ok=True)
            raise
    return Backup(str(path), path.stat().st_size)


def verify(place: "Local", copy: Home) -> None:
    """Let the doctor examine a copy that is not the live one; raises ``integrity`` with what is wrong."""
    apart = place.elsewhere(copy)
    try:
        health: Health = apart.perform(CheckHealth())
    finally:
        apart.close()
    wrong = next((check for check in health.checks if not check.ok and check.name != KEYS), None)
    if wrong is not None:
        raise IntegrityFault(
            "integrity",
            f"The copy is not healthy: {wrong.name}: {wrong.detail}",
            hint="Nothing was changed. Run `popug doctor` for all that is wrong.",
            details={"check": wrong.name},
        )


def _next_path(place: "Local") -> Path:
    with translated(place.home.database):
        place.home.backups.mkdir(mode=OWNER_ONLY_DIRECTORY, exist_ok=True)
        disk.check_writable(place.home.backups)
    return place.home.backups / f"popug-{place.runtime.clock.now():%Y%m%dT%H%M%S%fZ}.zip"


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise Conflict(
            "file_exists",
            f"{path} is there already.",
            hint="Name another file; a backup never replaces one.",
            details={"path": str(path)},
        )

"""Replace the content of a home that cannot be renamed: a mount point, or a home in a directory of another account.

The temporary home is inside the home. First the old content is moved to another directory inside the home. Then the new
content is moved from the temporary home, the database last, so that a process finds the old company, none or the new
one. Both steps can be repeated: after a kill, the next process repeats them. ``temporary_home`` recognizes such a swap
by the plan in the marker of the temporary home.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from popug_cli.kernel.home import Home
from popug_cli.platform import files, temporary
from popug_cli.storage import mounts
from popug_cli.storage.mounts import TEMP_HOME_MARKER

LABEL = "restore"
OLD_CONTENT_PREFIX = "before-restore-"
MOVED_AWAY_MARKER = ".old-content-moved-away"
KEPT_NAMES = frozenset({"lost+found"})  # of the file system itself


def is_needed(home: Path) -> bool:
    """Return whether a home exists that cannot be renamed."""
    return home.is_dir() and (mounts.is_mount_point(home) or not os.access(home.parent, os.W_OK))


def swap(fresh: Path, home: Path, old_content: Path) -> Path | None:
    """Move the content of a home to ``old_content``, and that of the temporary home to the home.

    Return ``old_content``, or None if the home was empty. Raise ``OSError``; the home is then as before, or the next
    process finishes the swap.
    """
    if not (fresh / MOVED_AWAY_MARKER).exists():
        old_content.mkdir(mode=files.OWNER_ONLY_DIRECTORY, exist_ok=True)
        _move_old_content(home, old_content)
        (fresh / MOVED_AWAY_MARKER).touch()
        files.sync_directory(fresh)
    for entry in [*_database_last(fresh)]:
        if entry.name not in {TEMP_HOME_MARKER, MOVED_AWAY_MARKER}:
            _put(entry, home / entry.name)
    files.sync_directory(home)
    has_old_content = any(old_content.iterdir())
    if not has_old_content:
        old_content.rmdir()
    shutil.rmtree(fresh)
    return old_content if has_old_content else None


def unfinished(home: Home) -> Iterator[Path]:
    """Yield the temporary homes inside a home that a killed restore may have left."""
    yield from temporary.paths(home.root, home.root / LABEL)


def _move_old_content(home: Path, old_content: Path) -> None:
    """Move the old content out of the home; if that fails, move it back and raise ``OSError``."""
    try:
        for entry in sorted(home.iterdir(), key=lambda entry: entry.name != Home(home).database.name):
            if not _stays_in_home(entry):
                _move_unless_mounted(entry, old_content / entry.name)
    except OSError:
        for entry in [*_database_last(old_content)]:
            entry.rename(home / entry.name)
        with suppress(OSError):
            old_content.rmdir()
        raise
    files.sync_directory(old_content)
    files.sync_directory(home)


def _stays_in_home(entry: Path) -> bool:
    return entry.name in KEPT_NAMES or entry.name.startswith(OLD_CONTENT_PREFIX) or temporary.is_temporary(entry)


def _move_unless_mounted(entry: Path, target: Path) -> None:
    """Move a file or directory; leave one that is a mount point, whose content ``_put`` replaces later."""
    try:
        entry.rename(target)
    except OSError as error:
        if error.errno not in {errno.EBUSY, errno.EXDEV}:
            raise


def _put(entry: Path, target: Path) -> None:
    """Move a new file or directory to its place. If a file or directory is mounted there, fill that one instead."""
    if entry.is_dir() and target.is_dir():
        for child in entry.iterdir():
            shutil.move(child, target / child.name)
    elif target.is_file():
        files.move_into_place(entry, target)
    else:
        entry.rename(target)


def _database_last(directory: Path) -> Iterator[Path]:
    yield from sorted(directory.iterdir(), key=lambda entry: entry.name == Home(directory).database.name)

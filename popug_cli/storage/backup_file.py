"""A backup file: a zip of the database and, if there are any, the settings, each with a checksum."""

import os
import shutil
import sqlite3
import zipfile
import zlib
from contextlib import closing
from pathlib import Path

from popug_cli.kernel.disk_errors import disk_full
from popug_cli.kernel.errors import IntegrityViolation, InvalidInput
from popug_cli.kernel.home import Home
from popug_cli.platform.files import OWNER_ONLY_FILE, sync
from popug_cli.platform.posix_errors import NO_SPACE

DATABASE = "popug.db"
SETTINGS = "config.toml"
SQLITE_MAGIC = b"SQLite format 3\0"
COMPRESSION_LEVEL = 1


def copy_database(source: Path, target: Path) -> None:
    """Copy a database as it is at one instant; other processes may write to it during the copy."""
    target.touch(mode=OWNER_ONLY_FILE)
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as live,
        closing(sqlite3.connect(target)) as copy,
    ):
        live.backup(copy)


def pack(home: Home, file: Path) -> None:
    """Write database and settings of a home into one new file, and sync it; raise ``OSError``.

    No other process may have the home open, because the database file is read as it is, without its write-ahead log.
    """
    with zipfile.ZipFile(file, "x", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION_LEVEL) as archive:
        archive.write(home.database, DATABASE)
        if home.config.exists():
            archive.write(home.config, SETTINGS)
    file.chmod(OWNER_ONLY_FILE)
    sync(file)


def unpack(file: Path, home: Home) -> None:
    """Extract database and settings of a backup, or copy a bare database, into an empty home.

    Raise ``unreadable_file``, ``disk_full``, or ``corrupt_database`` if the file is damaged or is not a backup.
    """
    try:
        with file.open("rb") as stream:
            is_bare = stream.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
        if is_bare:
            shutil.copyfile(file, home.database)
        else:
            _extract(file, home)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
        raise not_a_backup(file, str(error)) from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise disk_full(home.database) from error
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        hint = "Name a file that `popug backup` wrote."
        raise InvalidInput("unreadable_file", f"{file} cannot be read: {reason}.", hint=hint) from error
    for path in (home.database, home.config):
        if path.exists():
            path.chmod(OWNER_ONLY_FILE)


def not_a_backup(file: Path, reason: str) -> IntegrityViolation:
    """Return the error for a file that is not a usable backup."""
    return IntegrityViolation(
        "corrupt_database",
        f"{file} is damaged or is not a popug backup: {reason}.",
        hint="Nothing was changed. Name a file that `popug backup` wrote.",
        details={"path": str(file)},
    )


def _extract(file: Path, home: Home) -> None:
    """Extract the two known names of a backup only, to fixed paths: never to a path from the archive."""
    with zipfile.ZipFile(file) as archive:
        for name, target in ((DATABASE, home.database), (SETTINGS, home.config)):
            if name == SETTINGS and name not in archive.namelist():
                continue
            with archive.open(name) as source, target.open("xb") as copy:
                shutil.copyfileobj(source, copy)
                copy.flush()
                os.fsync(copy.fileno())

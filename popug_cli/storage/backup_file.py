"""A backup on disk: a zip of the database and the settings, each with a checksum."""

import os
import shutil
import sqlite3
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import mkdtemp

from popug_cli.kernel.disk_errors import disk_full, unwritable
from popug_cli.kernel.errors import IntegrityViolation, InvalidInput
from popug_cli.kernel.home import Home
from popug_cli.platform.files import OWNER_ONLY_FILE, sync
from popug_cli.platform.posix_errors import NO_SPACE
from popug_cli.storage.mounts import TEMP_HOME_MARKER

DATABASE = "popug.db"
SETTINGS = "config.toml"
SQLITE_MAGIC = b"SQLite format 3\0"
COMPRESSION_LEVEL = 1


@contextmanager
def temporary_home(next_to: Path) -> Iterator[Home]:
    """An empty home on the same file system; only its owner can see it.

    It is removed at the end, unless it was moved away: what lies in its place then has no mark and is left alone.
    """
    try:
        folder = Path(mkdtemp(prefix=f".{next_to.name[:100]}.", dir=next_to.parent))
    except OSError as error:
        raise unwritable(next_to, error) from error
    (folder / TEMP_HOME_MARKER).touch()
    try:
        yield Home(folder)
    finally:
        if (folder / TEMP_HOME_MARKER).exists():
            shutil.rmtree(folder, ignore_errors=True)


def copy_database(source: Path, target: Path) -> None:
    """Copy a database as it is at one instant, whoever writes to it meanwhile."""
    target.touch(mode=OWNER_ONLY_FILE)
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as live,
        closing(sqlite3.connect(target)) as copy,
    ):
        live.backup(copy)


def pack(home: Home, file: Path) -> None:
    """Write database and settings of a home that nobody else has open into one file, and sync it."""
    with zipfile.ZipFile(file, "x", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION_LEVEL) as archive:
        archive.write(home.database, DATABASE)
        if home.config.exists():
            archive.write(home.config, SETTINGS)
    file.chmod(OWNER_ONLY_FILE)
    sync(file)


def unpack(file: Path, home: Home) -> None:
    """Put database and settings of a backup, or of a bare copy of a database, into an empty home.

    Raises ``unreadable_file``, or ``corrupt_database`` where the file is no backup or damaged.
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


def not_a_backup(file: Path, why: str) -> IntegrityViolation:
    """Nothing that a company could be restored from."""
    return IntegrityViolation(
        "corrupt_database",
        f"{file} is damaged or no backup of popug: {why}.",
        hint="Nothing was changed. Name a file that `popug backup` wrote.",
        details={"path": str(file)},
    )


def _extract(file: Path, home: Home) -> None:
    """Only the two names that a backup has are ever written, and never by a path of the archive's own."""
    with zipfile.ZipFile(file) as archive:
        for name, target in ((DATABASE, home.database), (SETTINGS, home.config)):
            if name == SETTINGS and name not in archive.namelist():
                continue
            with archive.open(name) as source, target.open("xb") as copy:
                shutil.copyfileobj(source, copy)
                copy.flush()
                os.fsync(copy.fileno())

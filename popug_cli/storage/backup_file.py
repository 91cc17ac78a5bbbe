"""Write a backup file: a zip of the database and, if there are any, the settings, each with a checksum."""

import shutil
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import mkdtemp

from popug_cli.kernel.disk_errors import unwritable
from popug_cli.kernel.home import Home
from popug_cli.platform.files import OWNER_ONLY_FILE, sync
from popug_cli.storage.mounts import TEMP_HOME_MARKER

DATABASE = "popug.db"
SETTINGS = "config.toml"
SQLITE_MAGIC = b"SQLite format 3\0"
COMPRESSION_LEVEL = 1


@contextmanager
def temporary_home(next_to: Path) -> Iterator[Home]:
    """Yield an empty home on the same file system, accessible to its owner only.

    It is removed at the end, unless it was moved away. A directory that has replaced it has no ``TEMP_HOME_MARKER`` and
    is kept. Raise ``disk_full``, ``io_error`` or ``unwritable_file``.
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

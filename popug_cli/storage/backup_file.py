"""Write a backup file: a zip of the database and, if there are any, the settings, each with a checksum."""

import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

from popug_cli.kernel.home import Home
from popug_cli.platform.files import OWNER_ONLY_FILE, sync

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
    """Write the database and the settings of a home to one new file, and sync it; raise ``OSError``.

    No other process may have the home open, because the database file is read as it is, without its write-ahead log.
    """
    with zipfile.ZipFile(file, "x", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION_LEVEL) as archive:
        archive.write(home.database, DATABASE)
        if home.config.exists():
            archive.write(home.config, SETTINGS)
    file.chmod(OWNER_ONLY_FILE)
    sync(file)

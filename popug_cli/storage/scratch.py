"""A database for one task of one process, in a file without a name, which disappears when the process ends."""

import os
import sqlite3
from pathlib import Path

from popug_cli.platform.temporary import temporary_path
from popug_cli.storage.sqlite import SqliteDatabase

CACHE_KIB = 16 * 1024


def connect() -> sqlite3.Connection:
    """Return a connection to an empty database: it moves from memory to an unnamed file when it outgrows its cache.

    If no directory for temporary files is usable, it stays in memory.
    """
    driver = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    driver.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    if temporary_directory() is None:
        driver.execute("PRAGMA cache_spill=OFF")
    return driver


def temporary_directory() -> Path | None:
    """Return the directory of SQLite's unnamed files: https://www.sqlite.org/tempfiles.html, section 5.

    Return None if none is usable.
    """
    chosen = filter(None, map(os.environ.get, ("SQLITE_TMPDIR", "TMPDIR")))
    candidates = map(Path, (*chosen, "/var/tmp", "/usr/tmp", "/tmp", "."))  # noqa: S108
    return next((path for path in candidates if path.is_dir() and os.access(path, os.W_OK | os.X_OK)), None)


class ScratchDatabase(SqliteDatabase):
    """A database of the port for ``connect``. It has one connection, which holds its content."""

    def __init__(self) -> None:
        no_file = temporary_path((temporary_directory() or Path(os.curdir)) / "scratch")  # errors name its directory
        super().__init__(no_file)
        self._is_open = False

    def _connect(self) -> sqlite3.Connection:
        assert not self._is_open, "a second connection would be another database"
        self._is_open = True
        driver = connect()
        driver.execute("PRAGMA recursive_triggers=ON")
        return driver

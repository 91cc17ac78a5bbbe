"""A database for one task of one process, in a file without a name, which disappears when the process ends."""

import sqlite3
import tempfile

from popug_cli.storage.disk_counter import temporary_directory
from popug_cli.storage.sqlite import SqliteDatabase


class ScratchDatabase(SqliteDatabase):
    """SQLite's temporary database: it moves from memory to an unnamed file when it outgrows its cache.

    If no directory for temporary files is usable, it stays in memory. It has one connection, which holds its content;
    nothing of it remains, even after a kill.
    """

    def __init__(self) -> None:
        super().__init__(temporary_directory() / "popug-scratch")
        self._is_open = False

    def _connect(self) -> sqlite3.Connection:
        assert not self._is_open, "a second connection would be another database"
        self._is_open = True
        driver = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        driver.execute("PRAGMA recursive_triggers=ON")
        driver.execute("PRAGMA cache_size=-16384")
        if not _has_temporary_directory():
            driver.execute("PRAGMA cache_spill=OFF")
        return driver


def _has_temporary_directory() -> bool:
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return False
    return True

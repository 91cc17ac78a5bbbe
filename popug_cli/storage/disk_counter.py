"""Count texts of which there may be too many for memory."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from popug_cli.kernel.disk_errors import disk_full

CACHE_KIB = 16 * 1024
UPSERT_COUNT = "INSERT INTO seen VALUES (?, 1) ON CONFLICT (text) DO UPDATE SET times = times + 1 RETURNING times"


@contextmanager
def count_on_disk() -> Iterator[Callable[[str], int]]:
    """Yield a function that counts a text and returns how often it was counted, this time included.

    The counts are in an unnamed SQLite database, which moves to a temporary file when it outgrows its cache and is
    deleted at the end. The function raises ``disk_full`` if there is no room for that file.
    """
    with closing(sqlite3.connect("", isolation_level=None)) as scratch:
        scratch.execute("PRAGMA journal_mode = OFF")
        scratch.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        scratch.execute("CREATE TABLE seen (text TEXT PRIMARY KEY, times INTEGER NOT NULL) STRICT, WITHOUT ROWID")
        scratch.execute("BEGIN")

        def count(text: str) -> int:
            try:
                (times,) = scratch.execute(UPSERT_COUNT, (text,)).fetchone()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                    raise disk_full(temporary_directory()) from error
                raise
            return int(times)

        yield count


def temporary_directory() -> Path:
    """Return the directory of SQLite's unnamed files: https://www.sqlite.org/tempfiles.html, section 5."""
    chosen = os.environ.get("SQLITE_TMPDIR") or os.environ.get("TMPDIR")
    return Path(chosen or next((path for path in ("/var/tmp", "/usr/tmp") if os.access(path, os.W_OK)), "/tmp"))  # noqa: S108

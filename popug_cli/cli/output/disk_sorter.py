"""Sort texts of which there may be too many for memory."""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from popug_cli.kernel.disk_errors import disk_full

CACHE_KIB = 16 * 1024


class DiskSorter:
    """Texts with a key each. An iteration yields them by key, and those of one key in the order of ``add``."""

    def __init__(self, scratch: sqlite3.Connection) -> None:
        self._scratch = scratch
        self._count = 0

    def add(self, key: str, text: str) -> None:
        """Add a text. Raise ``disk_full`` if there is no room for it."""
        self._count += 1
        try:
            self._scratch.execute("INSERT INTO parts VALUES (?, ?, ?)", (key, self._count, text))
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise disk_full(Path(tempfile.gettempdir())) from error
            raise

    def __iter__(self) -> Iterator[str]:
        for (text,) in self._scratch.execute("SELECT text FROM parts ORDER BY key, number"):
            yield text


@contextmanager
def sort_on_disk() -> Iterator[DiskSorter]:
    """Yield a sorter. Its texts are in an unnamed SQLite database, which is deleted at the end.

    The database moves to a temporary file when it outgrows its cache: https://www.sqlite.org/tempfiles.html.
    """
    with closing(sqlite3.connect("", isolation_level=None)) as scratch:
        scratch.execute("PRAGMA journal_mode = OFF")
        scratch.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        scratch.execute(
            "CREATE TABLE parts (key TEXT, number INTEGER, text TEXT, PRIMARY KEY (key, number)) STRICT, WITHOUT ROWID"
        )
        scratch.execute("BEGIN")
        yield DiskSorter(scratch)

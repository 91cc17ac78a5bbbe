"""Count texts of which there may be too many for memory."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from popug_cli.kernel.disk_errors import disk_full
from popug_cli.storage import scratch

UPSERT_COUNT = "INSERT INTO seen VALUES (?, 1) ON CONFLICT (text) DO UPDATE SET times = times + 1 RETURNING times"


@contextmanager
def count_on_disk() -> Iterator[Callable[[str], int]]:
    """Yield a function that counts a text and returns how often it was counted, this time included.

    The counts are in a scratch database, which is deleted at the end. The function raises ``disk_full`` if there is no
    room for its file.
    """
    with closing(scratch.connect()) as driver:
        driver.execute("PRAGMA journal_mode = OFF")
        driver.execute("CREATE TABLE seen (text TEXT PRIMARY KEY, times INTEGER NOT NULL) STRICT, WITHOUT ROWID")
        driver.execute("BEGIN")

        def count(text: str) -> int:
            try:
                (times,) = driver.execute(UPSERT_COUNT, (text,)).fetchone()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                    raise disk_full(scratch.temporary_directory() or Path()) from error
                raise
            return int(times)

        yield count

"""Counting texts of which there may be more than memory should hold."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

_PAGES_IN_MEMORY_KIB = 16 * 1024


@contextmanager
def tally() -> Iterator[Callable[[str], int]]:
    """How often it was asked for a text, this time included.

    The counts lie in a nameless database of SQLite, which goes to a temporary file where it grows beyond a few MiB and
    is gone at the end. Raises ``sqlite3.Error``.
    """
    with closing(sqlite3.connect("", isolation_level=None)) as scratch:
        scratch.execute("PRAGMA journal_mode = OFF")
        scratch.execute(f"PRAGMA cache_size = -{_PAGES_IN_MEMORY_KIB}")
        scratch.execute("CREATE TABLE seen (text TEXT PRIMARY KEY, times INTEGER NOT NULL) STRICT, WITHOUT ROWID")
        scratch.execute("BEGIN")

        def count(text: str) -> int:
            counted = scratch.execute(
                "INSERT INTO seen VALUES (?, 1) ON CONFLICT (text) DO UPDATE SET times = times + 1 RETURNING times",
                (text,),
            )
            return int(counted.fetchone()[0])

        yield count

"""Open a company's database for reading alone, in a process that must be quick, such as shell completion."""

import sqlite3
from contextlib import AbstractContextManager, closing
from pathlib import Path

ReadOnlyDatabase = sqlite3.Connection
ReadError = sqlite3.Error


def open_read_only(file: Path, timeout_seconds: float) -> AbstractContextManager[ReadOnlyDatabase]:
    """Return a connection that cannot write and waits that long for a lock; raise ``ReadError``."""
    return closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=timeout_seconds))

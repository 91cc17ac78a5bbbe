"""Open a company's database for reading alone, in a process that must be quick, such as shell completion."""

import sqlite3
from contextlib import AbstractContextManager, closing
from pathlib import Path

ReadOnlyDatabase = sqlite3.Connection
ReadError = sqlite3.Error


def open_read_only(
    file: Path, timeout_seconds: float, *, leaves_no_files: bool = False
) -> AbstractContextManager[ReadOnlyDatabase]:
    """Return a connection that cannot write and waits that long for a lock; raise ``ReadError``.

    A reader of a database in WAL mode creates two files next to it, and cannot remove them. With ``leaves_no_files``, a
    database without a WAL is read as one that does not change: https://www.sqlite.org/uri.html#uriimmutable
    """
    mode = "mode=ro"
    if leaves_no_files and not file.with_name(f"{file.name}-wal").exists():
        mode = "mode=ro&immutable=1"
    return closing(sqlite3.connect(f"{file.absolute().as_uri()}?{mode}", uri=True, timeout=timeout_seconds))

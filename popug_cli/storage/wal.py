"""The write-ahead log of a database that is held open: whether it is still the one, and whole."""

import os
import struct
from pathlib import Path

# Of the index: its version, unused, changes, whether it is ready, the byte order, the page size, and how many pages
# the log holds that count (https://www.sqlite.org/walformat.html, "The WAL-Index Header").
_INDEX = struct.Struct("=IIIBBHI")
_LOG_HEADER_BYTES, _PAGE_HEADER_BYTES = 32, 24
_LARGEST_PAGE = 1


def is_same(database: Path, known: os.stat_result) -> bool:
    """Whether a database's log is the file that it was, and holds all that its index counts."""
    return _is_whole(database, known) or _is_whole(database, known)  # again, for it may have been begun anew meanwhile


def log_of(database: Path) -> os.stat_result:
    """Which file the log is; raises ``OSError`` where there is none."""
    return database.with_name(f"{database.name}-wal").stat()


def _is_whole(database: Path, known: os.stat_result) -> bool:
    try:
        with database.with_name(f"{database.name}-shm").open("rb", buffering=0) as file:
            index = file.read(_INDEX.size)
        found = log_of(database)
    except OSError:
        return False
    if len(index) < _INDEX.size or (found.st_dev, found.st_ino) != (known.st_dev, known.st_ino):
        return False
    *_, page_bytes, pages = _INDEX.unpack(index)
    page_bytes = 65_536 if page_bytes == _LARGEST_PAGE else page_bytes
    least_bytes: int = _LOG_HEADER_BYTES + pages * (_PAGE_HEADER_BYTES + page_bytes)
    return pages == 0 or found.st_size >= least_bytes

"""Check a database file of unknown origin, such as one in a backup, before anything else reads it.

A crafted file can make every statement endless (one page that is referenced again and again), or run statements of its
author (triggers, views). So the pages are checked first, under a time limit, then the schema
(https://www.sqlite.org/security.html).
"""

import os
import sqlite3
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from popug_cli.kernel.errors import Unavailable
from popug_cli.storage.errors import environment_error
from popug_cli.storage.migrate import NEWEST
from popug_cli.storage.schema import SELECT_OBJECTS, differences

MIN_TIME_LIMIT_SECONDS = 30
MIN_BYTES_PER_SECOND = 1024 * 1024  # a slow disk reads fifty times as much
PROGRESS_STEPS = 100_000
WAL_HEADER = struct.Struct(">8I")  # https://www.sqlite.org/walformat.html
FRAME_HEADER = struct.Struct(">6I")
WAL_CHECKSUM_FORMATS = {0x377F0682: "<6I", 0x377F0683: ">6I"}  # by magic number
PRAGMAS = (
    "PRAGMA trusted_schema=OFF",
    "PRAGMA writable_schema=ON",  # else the older SQLite that calls json_extract unsafe refuses to read popug's schema
    "PRAGMA cell_size_check=ON",
    "PRAGMA mmap_size=0",
)
MAX_SHOWN_DIFFERENCES = 3


class WalFrames(NamedTuple):
    """The frames of a write-ahead log: how many the last commit covers, and whether the last frame is incomplete."""

    committed: int
    is_cut: bool


def find_fault(database: Path) -> str | None:
    """Fold the logs of a database into it, and return why it is not a sound database of popug, or None.

    Check its schema and its pages, not its rows. An empty database and one of a newer popug pass here; the caller
    refuses them. No other process may have the file open. Raise ``Unavailable`` if the machine prevents the check.
    """
    wal = database.with_name(f"{database.name}-wal")
    frames = _frames_of(wal) if wal.exists() and wal.stat().st_size else WalFrames(0, is_cut=False)
    if frames is None or frames.is_cut:
        return "its write-ahead log is damaged or was cut"
    size_bytes = sum(path.stat().st_size for path in (database, wal) if path.exists())
    deadline = time.monotonic() + MIN_TIME_LIMIT_SECONDS + size_bytes / MIN_BYTES_PER_SECOND
    try:
        return next(_faults(database, deadline, frames.committed), None)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            return "reading it takes too long for its size"
        translated = environment_error(error, database)
        if isinstance(translated, Unavailable):
            raise translated from error
        return str(error)


def _faults(database: Path, deadline: float, committed_frames: int) -> Iterator[str]:
    """Yield the faults. The pages are checked last, because that evaluates expressions of the schema."""
    with _open(database, deadline, PRAGMAS) as connection:
        versions = _versions(connection)
        _, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if committed_frames > max(frames, 0):
            yield "its write-ahead log is damaged"
        if len(versions) > 1:
            yield f"it records the versions {', '.join(versions)}"
        if not versions and connection.execute(SELECT_OBJECTS).fetchone():
            yield "it contains tables of another program"
        if not versions or versions[0] > NEWEST:  # the caller refuses these
            return
        yield from _schema_faults(connection, versions[0])
    with _open(database, deadline) as connection:
        yield from (str(result) for (result,) in connection.execute("PRAGMA integrity_check(1)") if result != "ok")


@contextmanager
def _open(database: Path, deadline: float, pragmas: Sequence[str] = ()) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True)) as connection:
        connection.set_progress_handler(lambda: time.monotonic() > deadline, PROGRESS_STEPS)
        for pragma in pragmas:
            connection.execute(pragma)
        yield connection


def _schema_faults(connection: sqlite3.Connection, version: str) -> Iterator[str]:
    try:
        found = list(differences(connection.execute(SELECT_OBJECTS), version))
    except KeyError:
        yield f"its recorded version is {version!r}"
    else:
        more = " and more" if len(found) > MAX_SHOWN_DIFFERENCES else ""
        if found:
            yield f"its schema is not popug's: {', '.join(found[:MAX_SHOWN_DIFFERENCES])}{more}"


def _versions(connection: sqlite3.Connection) -> list[str]:
    table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
    if connection.execute(table).fetchone() is None:
        return []
    return [str(version) for (version,) in connection.execute("SELECT version_num FROM alembic_version LIMIT 2")]


def _frames_of(wal: Path) -> WalFrames | None:
    """Return the frames written since a write-ahead log was last reset; None if its header is not valid."""
    with wal.open("rb") as file:
        header = file.read(WAL_HEADER.size)
        if len(header) < WAL_HEADER.size or not _is_wal_header(header):
            return None
        _, _, page_bytes, _, *salts, _, _ = WAL_HEADER.unpack(header)
        frame_bytes = FRAME_HEADER.size + page_bytes
        count, rest = divmod(os.fstat(file.fileno()).st_size - WAL_HEADER.size, frame_bytes)
        committed = 0
        for number in range(1, count + 1):
            file.seek(WAL_HEADER.size + (number - 1) * frame_bytes)
            _, pages_after_commit, *frame_salts, _, _ = FRAME_HEADER.unpack(file.read(FRAME_HEADER.size))
            if pages_after_commit and frame_salts == salts:
                committed = number
    return WalFrames(committed, is_cut=rest != 0)


def _is_wal_header(header: bytes) -> bool:
    """Return whether the header's magic number and checksum are right; if they are not, SQLite ignores the log."""
    magic, *_, first_sum, second_sum = WAL_HEADER.unpack(header)
    words = struct.unpack(WAL_CHECKSUM_FORMATS.get(magic, ">6I"), header[:24])
    sums = [0, 0]
    for even, odd in zip(words[::2], words[1::2], strict=True):
        sums[0] = (sums[0] + even + sums[1]) % 2**32
        sums[1] = (sums[1] + odd + sums[0]) % 2**32
    return magic in WAL_CHECKSUM_FORMATS and sums == [first_sum, second_sum]

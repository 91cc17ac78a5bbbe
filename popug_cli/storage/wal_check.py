"""Detect that the files of an open database were replaced, removed or truncated by another program.

The files are only looked at with ``stat``. Opening and closing one of them would drop all POSIX locks that this process
holds on it, SQLite's own included; the next process to open the database would then reset the WAL index, and this
process would end by SIGBUS (https://www.sqlite.org/howtocorrupt.html, 2.2).
"""

import sqlite3

from sqlalchemy import Engine

from popug_cli.platform.file_id import FileFingerprint, require_fingerprint
from popug_cli.storage.engine import raw_connection

WAL_HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24  # https://www.sqlite.org/walformat.html


class DatabaseFiles:
    """The database of an engine, its write-ahead log and its WAL index, as they were when last found intact.

    While a connection is open, SQLite replaces none of them, and shortens the log only after a complete checkpoint.
    Raises ``OSError`` if one of the files does not exist.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        database = str(engine.get_execution_options()["popug_database"])
        self._paths = (database, f"{database}-wal", f"{database}-shm")
        self._known = [require_fingerprint(path) for path in self._paths]

    def are_intact(self) -> bool:
        """Return whether all three are the same files as before, and none has lost its end since the last call."""
        known = self._known  # read first: another thread may store newer, larger sizes
        try:
            current = [require_fingerprint(path) for path in self._paths]
        except OSError:
            return False
        if [file.id for file in current] != [file.id for file in known]:
            return False
        is_database_cut, is_log_cut, _ = (
            file.size_bytes < old.size_bytes for file, old in zip(current, known, strict=True)
        )
        if is_database_cut:
            return False
        if is_log_cut:
            return self._is_log_whole(current)
        self._known = current
        return True

    def _is_log_whole(self, current: list[FileFingerprint]) -> bool:
        """Return whether a log that became shorter still holds all frames that SQLite counts in it."""
        with self._engine.connect() as connection:
            driver = raw_connection(connection)
            try:
                is_busy, frames, _ = driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                (page_bytes,) = driver.execute("PRAGMA page_size").fetchone()
            except sqlite3.Error:
                return False
        if is_busy:  # another process runs a checkpoint; the next call asks again
            return True
        least_bytes = WAL_HEADER_BYTES + frames * (FRAME_HEADER_BYTES + page_bytes)
        if frames > 0 and require_fingerprint(self._paths[1]).size_bytes < least_bytes:
            return False
        self._known = current
        return True

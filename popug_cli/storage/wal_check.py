"""Detect that another program replaced, removed or truncated a file of an open database.

The files are the database itself, its write-ahead log (``-wal``) and its WAL index (``-shm``).

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
    """The three files of an engine's database, and their fingerprints when they were last found intact.

    While a connection is open, SQLite replaces none of them, and shortens the WAL only after a complete checkpoint.
    Raise ``OSError`` if one of the files does not exist.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        database = str(engine.get_execution_options()["popug_database"])
        self._paths = (database, f"{database}-wal", f"{database}-shm")
        self._known = [require_fingerprint(path) for path in self._paths]

    def are_intact(self) -> bool:
        """Return whether all three exist and are the same files as before, and database and WAL are not truncated."""
        known = self._known  # read first: another thread may store newer, larger sizes
        try:
            current = [require_fingerprint(path) for path in self._paths]
        except OSError:
            return False
        if [file.id for file in current] != [file.id for file in known]:
            return False
        is_database_cut, is_wal_cut, _ = (
            file.size_bytes < old.size_bytes for file, old in zip(current, known, strict=True)
        )
        if is_database_cut:
            return False
        if is_wal_cut:
            return self._is_wal_complete(current)
        self._known = current
        return True

    def _is_wal_complete(self, current: list[FileFingerprint]) -> bool:
        """Return whether a WAL that became shorter still holds all frames that SQLite counts in it.

        If another process is running a checkpoint, return True; the next call checks again.
        """
        with self._engine.connect() as connection:
            driver = raw_connection(connection)
            try:
                is_busy, frames, _ = driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                (page_bytes,) = driver.execute("PRAGMA page_size").fetchone()
            except sqlite3.Error:
                return False
        if is_busy:
            return True
        min_bytes = WAL_HEADER_BYTES + frames * (FRAME_HEADER_BYTES + page_bytes)
        if frames > 0 and require_fingerprint(self._paths[1]).size_bytes < min_bytes:
            return False
        self._known = current
        return True

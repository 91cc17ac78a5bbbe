"""Detect that another program replaced, removed or truncated a file of an open database.

The files are the database itself, its write-ahead log (``-wal``) and its WAL index (``-shm``).

The files are only looked at with ``stat``. Opening and closing one of them would drop all POSIX locks that this process
holds on it, SQLite's own included; the next process to open the database would then reset the WAL index, and this
process would end by SIGBUS (https://www.sqlite.org/howtocorrupt.html, 2.2).
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from popug_cli.platform.file_id import FileFingerprint, file_fingerprint, require_fingerprint
from popug_cli.storage.port import Database
from popug_cli.storage.sqlite import SqliteDatabase, connect

WAL_HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24  # https://www.sqlite.org/walformat.html


class DatabaseFiles:
    """The three files of an open database, and their fingerprints when they were last found intact.

    While a connection is open, SQLite replaces none of them, and shortens the WAL only after a complete checkpoint. A
    checkpoint changes the database, and after a VACUUM it shortens it. So a changed database is read again, on a
    connection without a cache: it must contain the newest link of the hash chain that was remembered.
    ``select_newest_link`` and ``select_link`` (by its key) read such links. Raise ``OSError`` if a file does not exist.
    A connection of its own stays open until ``close``: SQLite deletes the WAL with the last connection.
    """

    def __init__(self, database: SqliteDatabase, *, select_newest_link: str, select_link: str) -> None:
        self._database = database
        self._select_newest_link, self._select_link = select_newest_link, select_link
        file = str(database.path)
        self._paths = (file, f"{file}-wal", f"{file}-shm")
        self._known = [require_fingerprint(path) for path in self._paths]
        self._open_connection = connect(database.path)
        self._open_connection.execute("SELECT 1 FROM sqlite_schema").fetchone()  # only a read opens the WAL
        self._link: tuple[Any, ...] | None = None
        self.remember_newest_link()

    def are_intact(self) -> bool:
        """Return whether all three exist and are the same files as before, with the same history, and not truncated."""
        known = self._known  # read first: another thread may store newer, larger sizes
        try:
            current = [require_fingerprint(path) for path in self._paths]
        except OSError:
            return False
        if [file.id for file in current] != [file.id for file in known]:
            return False
        if current[0] != known[0] and not self._has_remembered_link():
            return False
        if current[1].size_bytes < known[1].size_bytes:
            return self._is_wal_complete(current)
        self._known = current
        return True

    def close(self) -> None:
        """Close the connection that keeps the files; call this last."""
        self._open_connection.close()

    def remember_newest_link(self) -> None:
        """Remember the newest link of the hash chain, unless the database has changed since it was found intact.

        A copy of the database that is older than the remembered link is noticed; call this every second.
        """
        known = self._known[0]
        try:
            link = self._read(self._select_newest_link)
        except sqlite3.Error:  # ``are_intact`` decides what that means
            return
        if link is not None and file_fingerprint(self._paths[0]) == known:
            self._link = link

    def _has_remembered_link(self) -> bool:
        try:
            link = self._read(self._select_newest_link if self._link is None else self._select_link, self._link)
        except sqlite3.Error as error:
            return getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
        return self._link is None or link == self._link

    def _read(self, statement: str, link: tuple[Any, ...] | None = None) -> tuple[Any, ...] | None:
        uri = f"{Path(self._paths[0]).absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            row: tuple[Any, ...] | None = connection.execute(statement, link[:1] if link else ()).fetchone()
            return row

    def _is_wal_complete(self, current: list[FileFingerprint]) -> bool:
        """Return whether a WAL that became shorter still holds all frames that SQLite counts in it.

        If another process is running a checkpoint, return True; the next call checks again.
        """
        with self._database.connection(writes=False) as connection:
            try:
                ((is_busy, frames, _),) = connection.select("PRAGMA wal_checkpoint(PASSIVE)")
                page_bytes = connection.scalar("PRAGMA page_size")
            except sqlite3.Error:
                return False
        if is_busy:
            return True
        min_bytes = WAL_HEADER_BYTES + frames * (FRAME_HEADER_BYTES + page_bytes)
        if frames > 0 and require_fingerprint(self._paths[1]).size_bytes < min_bytes:
            return False
        self._known = current
        return True


def watch_files(database: Database, *, select_newest_link: str, select_link: str) -> DatabaseFiles | None:
    """Return what watches the files of an open SQLite database; None for a database on a server."""
    if not isinstance(database, SqliteDatabase):
        return None
    return DatabaseFiles(database, select_newest_link=select_newest_link, select_link=select_link)

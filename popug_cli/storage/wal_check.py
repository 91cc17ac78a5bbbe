"""Detect that the files of an open database were replaced, removed or truncated by another program.

The files are only looked at with ``stat``. Opening and closing one of them would drop all POSIX locks that this process
holds on it, SQLite's own included; the next process to open the database would then reset the WAL index, and this
process would end by SIGBUS (https://www.sqlite.org/howtocorrupt.html, 2.2).
"""

import os
import sqlite3

from sqlalchemy import Engine

from popug_cli.storage.engine import raw_connection

FileState = tuple[int, int, int]
WAL_HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24  # https://www.sqlite.org/walformat.html


class DatabaseFiles:
    """The database of an engine, its write-ahead log and its WAL index, as they were when last found intact.

    While a connection is open, SQLite replaces none of them, and shortens the log only after a complete checkpoint.
    Raises ``OSError`` where one of the files does not exist.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        database = str(engine.get_execution_options()["popug_database"])
        self._paths = (database, f"{database}-wal", f"{database}-shm")
        self._known = [_state(path) for path in self._paths]

    def are_intact(self) -> bool:
        """Return whether all three are the same files as before, and none has lost its end since the last call."""
        known = self._known  # read first: another thread may store newer, larger sizes
        try:
            states = [_state(path) for path in self._paths]
        except OSError:
            return False
        if [state[:2] for state in states] != [state[:2] for state in known]:
            return False
        is_database_cut, is_log_cut, _ = (state[2] < old[2] for state, old in zip(states, known, strict=True))
        if is_database_cut:
            return False
        if is_log_cut:
            return self._is_log_whole(states)
        self._known = states
        return True

    def _is_log_whole(self, states: list[FileState]) -> bool:
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
        if frames > 0 and _state(self._paths[1])[2] < WAL_HEADER_BYTES + frames * (FRAME_HEADER_BYTES + page_bytes):
            return False
        self._known = states
        return True


def _state(path: str) -> FileState:
    found = os.stat(path)  # noqa: PTH116 - on the way of every request
    return found.st_dev, found.st_ino, found.st_size

"""Snapshots of several databases that are open at the same time, and are copied to files later."""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from popug_cli.kernel.progress import Progress
from popug_cli.platform.files import OWNER_ONLY_FILE
from popug_cli.storage.errors import translate_errors
from popug_cli.storage.port import Connection, Database


class Snapshot(ABC):
    """A database as it was at one instant."""

    @abstractmethod
    def copy_to(self, file: Path, progress: Progress) -> None:
        """Write the database to a new file of SQLite."""


class _FileSnapshot(Snapshot):
    def __init__(self, live: sqlite3.Connection) -> None:
        self._live = live

    def copy_to(self, file: Path, progress: Progress) -> None:
        file.touch(mode=OWNER_ONLY_FILE)
        with translate_errors(file), closing(sqlite3.connect(file)) as copy:
            self._live.backup(copy)  # reads in the transaction that is open


class _ServerSnapshot(Snapshot):
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def copy_to(self, file: Path, progress: Progress) -> None:
        from popug_cli.storage.postgres import copying

        with translate_errors(file):
            copying.to_file(self._connection, file, progress)
        file.chmod(OWNER_ONLY_FILE)


@contextmanager
def open_snapshot(database: Database, file: Path) -> Iterator[Snapshot]:
    """Yield a snapshot of a database at this instant; ``file`` is its path if it is a file. Raise its errors."""
    if database.is_shared:
        with database.transaction(writes=False) as connection:
            # This session is idle while the other databases are copied.
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            connection.execute("SET LOCAL statement_timeout = 0")
            yield _ServerSnapshot(connection)
        return
    with translate_errors(file), closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as live:
        live.execute("BEGIN")
        live.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the first read opens the snapshot
        yield _FileSnapshot(live)

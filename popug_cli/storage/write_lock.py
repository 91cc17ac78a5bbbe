"""The queue of those who write to one home, whatever process they are in: who comes first is served first.

SQLite keeps writers apart by itself, but lets those who wait look again now and then, so that in a crowd it is luck who
is let in and some never are. The system lets those who wait for a lock on a file in, one after the other, and takes the
lock from who dies. The queue is a courtesy: where its file cannot be had, SQLite's own lock is left.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from popug_cli.platform.file_id import FileFingerprint, FileId, file_fingerprint, file_id
from popug_cli.platform.files import OWNER_ONLY_FILE
from popug_cli.storage.errors import busy, replaced

LOCK_TIMEOUT_SECONDS = 30.0
POLL_SECONDS = 0.1
LOCK_FILE_NAME = "write.lock"


@contextmanager
def acquire(
    database: Path, expected: FileId | None, while_waiting: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Held around a write: nobody else writes to this home meanwhile who has come by this queue, too.

    Raises ``database_busy`` where nothing has moved for a while, ``home_replaced`` where another database has the
    place of the one that was opened. ``while_waiting`` is called every ``POLL_SECONDS`` of a wait; what it raises ends
    the wait.
    """
    descriptor = None if expected is None else _open_lock_file(database.with_name(LOCK_FILE_NAME))
    try:
        if descriptor is not None and not _try_lock(descriptor):
            _wait_for_lock(descriptor, database, while_waiting)
        if file_id(database) != expected:
            raise replaced(database)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open_lock_file(file: Path) -> int | None:
    try:
        return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY_FILE)
    except OSError:
        return None


def _try_lock(descriptor: int) -> bool:
    """Whether the lock could be taken at once, and now is; also where the file system has no such locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _wait_for_lock(descriptor: int, database: Path, while_waiting: Callable[[], None]) -> None:
    """Wait for the lock in a thread: who is blocked keeps its place, and a signal is heard at once here.

    Who gives up leaves the thread behind, which lets go of the lock when it gets it.
    """
    granted = threading.Event()
    threading.Thread(target=_lock_blocking, args=(os.dup(descriptor), granted), name="popug-queue", daemon=True).start()
    changed_at, last_state = time.monotonic(), _wal_state(database)
    while not granted.wait(POLL_SECONDS):
        while_waiting()
        if (state := _wal_state(database)) != last_state:
            changed_at, last_state = time.monotonic(), state
        elif time.monotonic() - changed_at > LOCK_TIMEOUT_SECONDS:
            raise busy()


def _lock_blocking(descriptor: int, granted: threading.Event) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)
        granted.set()


def _wal_state(database: Path) -> FileFingerprint | None:
    """Return what changes with every write: the fingerprint of the write-ahead log."""
    return file_fingerprint(database.with_name(f"{database.name}-wal"))

"""A fair write lock for all processes of one home.

SQLite already excludes concurrent writers, but waiting writers poll, so under load some starve. ``flock`` wakes waiting
processes in order and is released when its owner dies. The lock is an optimization: if its file cannot be opened,
SQLite's own lock is enough.
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
    """Hold the home's write lock during the block; it excludes only processes that use this lock.

    ``expected`` is the database's file when it was opened; None means that there was none, and takes no lock.
    Raise ``database_busy`` if no write happens for ``LOCK_TIMEOUT_SECONDS``, and ``home_replaced`` if the database is
    not the ``expected`` file any more. ``while_waiting`` is called every ``POLL_SECONDS`` of a wait; an exception from
    it ends the wait.
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
    """Try to take the lock without waiting; return False if it is held. Without flock support, return True."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _wait_for_lock(descriptor: int, database: Path, while_waiting: Callable[[], None]) -> None:
    """Acquire the lock in a helper thread, so that this thread can handle signals while it waits.

    On a timeout or an exception the helper is abandoned; it releases the lock as soon as it gets it.
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

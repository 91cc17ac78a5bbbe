"""The lock on a home that keeps a server and a migration apart: flock(2) on ``serve.lock``.

A server holds the lock exclusively as long as it serves the home; a migration holds it shared. The kernel releases it
when the process ends, also after ``kill -9``.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from popug_cli.kernel.errors import Unavailable
from popug_cli.kernel.home import Home
from popug_cli.platform.files import OWNER_ONLY_FILE


@contextmanager
def open_lock_file(home: Home) -> Iterator[int]:
    """Yield a descriptor of the lock's file; close it at the end, which releases the lock.

    Raise ``read_only`` if the path is not a regular file, or ``OSError``.
    """
    descriptor = os.open(home.serve_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY_FILE)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unavailable("read_only", f"{home.serve_lock} is not a file.", hint="Remove it; a server creates it.")
        yield descriptor
    finally:
        os.close(descriptor)


def try_lock(descriptor: int, mode: int) -> bool:
    """Try to take the lock without waiting; return whether it was taken. ``mode`` is ``LOCK_EX`` or ``LOCK_SH``."""
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def server_process_id(descriptor: int) -> int | None:
    """Return the process id of the server that holds the lock, as it wrote it into the file, or None."""
    content = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
    return int(content) if content.isdecimal() else None


@contextmanager
def hold_for_migration(home: Home) -> Iterator[None]:
    """Hold the lock during a migration, so that no server starts; raise ``server_unavailable`` if a server holds it."""
    with open_lock_file(home) as descriptor:
        if not try_lock(descriptor, fcntl.LOCK_SH):
            raise _served(home, server_process_id(descriptor))
        yield


@contextmanager
def hold_unserved(home: Home, purpose: str) -> Iterator[None]:
    """Hold the lock during work on a home that no server serves; raise ``server_unavailable`` if one does.

    ``purpose`` completes the sentence "HOME cannot …".
    """
    with open_lock_file(home) as descriptor:
        if not try_lock(descriptor, fcntl.LOCK_SH):
            process_id = server_process_id(descriptor)
            server = "a popug server" + (f" (process {process_id})" if process_id is not None else "")
            raise Unavailable(
                "server_unavailable",
                f"{home.root} cannot {purpose} now, because {server} serves it.",
                hint="Stop that server, then run this command again.",
                details={"process": process_id},
            )
        yield


def _served(home: Home, process_id: int | None) -> Unavailable:
    server = f"a popug server (process {process_id})" if process_id is not None else "a popug server"
    return Unavailable(
        "server_unavailable",
        f"{home.database} was written by an older popug and cannot be upgraded now, because {server} serves it.",
        hint="Stop that server, run this command again to upgrade, then start the server with this popug.",
        details={"process": process_id},
    )

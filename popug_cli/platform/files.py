"""Files and directories that survive a power cut: synced names, directories of one owner, replacement as a whole.

A file that is created, renamed or replaced is lost in a power cut unless its directory is synced too, even if the file
itself is. The harness ``tests/simulation/power_cut`` observed this by cutting the power at every point of a day. See
``decisions/0018-disk-failures-we-handle.md``. ``kernel/disk_errors.py`` turns an ``OSError`` into a ``PopugError``.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from popug_cli.platform.posix_errors import NO_DIRECTORY_SYNC

OWNER_ONLY_DIRECTORY = 0o700
OWNER_ONLY_FILE = 0o600


def sync(path: Path) -> None:
    """Have the file system keep a file, or the names in a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Have the file system keep the names in a directory, where it can and we may."""
    try:
        sync(directory)
    except OSError as error:
        if error.errno not in NO_DIRECTORY_SYNC:
            raise


def make_directory(directory: Path) -> None:
    """Make a directory, open to its owner only, and those above it that are missing; their names are kept."""
    if directory.is_dir():
        return
    make_directory(directory.parent)
    directory.mkdir(mode=OWNER_ONLY_DIRECTORY, exist_ok=True)
    sync_directory(directory.parent)


def check_writable(directory: Path) -> None:
    """Raise ``PermissionError`` for a directory in which nothing may be made."""
    if not os.access(directory, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory))


def is_private_directory(directory: Path) -> bool:
    """Whether a directory is there that belongs to this user, and in which nobody else can put anything."""
    try:
        status = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022


@contextmanager
def reserve_replacement(path: Path, size_bytes: int = 0) -> Iterator[Callable[[bytes], None]]:
    """Room on the disk for so large a file; what is yielded puts a content in the file's place, whole or not at all.

    The file is its owner's only: a synced temporary beside it, a rename, and that synced.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY_FILE)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:

            def write(content: bytes) -> None:
                _write_all(file, content)
                temporary.replace(path)
                sync_directory(path.parent)

            if size_bytes:
                _write_all(file, bytes(size_bytes))
            yield write
    finally:
        with suppress(OSError):  # what is left then is hidden, and the next to have this process id takes it over
            temporary.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file for its owner only, whole or not at all."""
    with reserve_replacement(path) as write:
        write(content)


def _write_all(file: FileIO, content: bytes) -> None:
    """Let a file have this content and keep it; where it had room for that, the disk cannot be too full."""
    file.seek(0)
    remaining = memoryview(content)
    while remaining:
        remaining = remaining[file.write(remaining) :]
    file.truncate()
    os.fsync(file.fileno())

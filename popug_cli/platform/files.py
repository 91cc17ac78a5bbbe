"""Files and directories that survive a power cut: names are synced, and a file is replaced as a whole or not at all.

Only their owner can read them.

A created, renamed or replaced file is lost in a power cut unless its directory is synced as well as the file. The
harness ``tests/simulation/power_cut`` observed this by cutting the power at every point of a day. See
``decisions/0018-disk-failures-we-handle.md``. ``kernel/disk_errors.py`` turns an ``OSError`` into a ``PopugError``.
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from popug_cli.platform.accounts import SUPERUSER, ForeignOwnerError
from popug_cli.platform.posix_errors import NO_DIRECTORY_SYNC
from popug_cli.platform.temporary import temporary_file

OWNER_ONLY_DIRECTORY = 0o700
OWNER_ONLY_FILE = 0o600
LOCK_TIMEOUT_SECONDS = 10.0
LOCK_POLL_SECONDS = 0.02
MAX_LINKS = 40  # as many as Linux follows: path_resolution(7)


def sync(path: Path) -> None:
    """Synchronize a file, or the names in a directory, with the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Synchronize the names in a directory with the disk, if the file system supports and permits it."""
    try:
        sync(directory)
    except OSError as error:
        if error.errno not in NO_DIRECTORY_SYNC:
            raise


def make_directory(directory: Path) -> None:
    """Create a directory and its missing parents, for their owner only, and synchronize their names.

    An existing directory is left as it is.
    """
    if directory.is_dir():
        return
    make_directory(directory.parent)
    directory.mkdir(mode=OWNER_ONLY_DIRECTORY, exist_ok=True)
    sync_directory(directory.parent)


def check_writable(directory: Path) -> None:
    """Raise ``PermissionError`` if this process may not create files in a directory."""
    if not os.access(directory, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory))


def is_private_directory(directory: Path) -> bool:
    """Return whether a directory exists, belongs to this user, and is writable for no other user."""
    try:
        status = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022


def read_regular_file(path: Path) -> tuple[bytes, os.stat_result]:
    """Return content and status of a file; raise ``OSError`` for a pipe, whose reading would block."""
    with open_regular_file(path) as file:
        return file.read(), os.fstat(file.fileno())


def open_regular_file(path: Path) -> BinaryIO:
    """Open a regular file, or a link to one, for reading; raise ``OSError`` for anything else.

    A pipe would block, and a device such as /dev/zero has no end. So neither is opened, unless it replaces the
    file between the check and the opening.
    """
    _require_regular(path.stat(), path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    try:
        _require_regular(os.fstat(descriptor), path)
    except BaseException:
        file.close()
        raise
    return file


def _require_regular(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, "it is a directory, not a file", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def exposure_of(status: os.stat_result, owner: int) -> str | None:
    """Return why a file with a secret is not private, or None. The caller appends the file to the text.

    The file may belong to this process, to the superuser, or to `owner`.
    """
    if status.st_uid not in {os.geteuid(), SUPERUSER, owner}:
        return "Another account owns"
    return "Other users can access" if status.st_mode & 0o077 else None


@contextmanager
def locked_directory(directory: Path) -> Iterator[None]:
    """Hold a lock on a directory, which excludes only processes that use this function.

    Raise ``TimeoutError`` after ``LOCK_TIMEOUT_SECONDS``. A file system without such locks is accepted.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
        while _is_locked_by_other(descriptor):
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, "another process holds its lock", str(directory))
            time.sleep(LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _is_locked_by_other(descriptor: int) -> bool:
    """Try to take the lock; return whether another process holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in {errno.EWOULDBLOCK, errno.EINTR}
    return False


@contextmanager
def reserve_replacement(path: Path, size_bytes: int = 0) -> Iterator[Callable[[bytes], None]]:
    """Reserve disk space for a file, and yield a function that replaces the file by some content, whole or not at all.

    The content goes into a temporary file in the same directory, readable for its owner only. That file is
    synchronized and renamed, and then the directory is synchronized. If the path is a link, the file to which it leads
    is replaced. Raise ``OSError``, also for what ``resolve_replaceable`` refuses.
    """
    target = resolve_replaceable(path)
    with temporary_file(target) as (descriptor, temporary), open(descriptor, "wb", buffering=0, closefd=False) as file:

        def write(content: bytes) -> None:
            _write_all(file, content)
            move_into_place(temporary, target)

        if size_bytes:
            _write_all(file, bytes(size_bytes))
        yield write


@contextmanager
def temporary_copy(path: Path) -> Iterator[Path | None]:
    """Yield a synchronized copy of a file, next to it and with its permissions; None if there is no file.

    The copy is removed at the end, unless it was moved.
    """
    if not path.exists():
        yield None
        return
    content, status = read_regular_file(path)
    with temporary_file(path) as (descriptor, copy):
        with open(descriptor, "wb", buffering=0, closefd=False) as file:
            _write_all(file, content)
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
        yield copy


def move_into_place(temporary: Path, target: Path) -> None:
    """Rename a synchronized temporary file to its target, and synchronize the directory.

    A target that is a mount point cannot be renamed over, such as one file that a container mounts. Its content is
    overwritten instead; a crash during the write leaves only a part of the content.
    """
    try:
        temporary.replace(target)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        _overwrite(target, temporary.read_bytes())
    sync_directory(target.parent)


def resolve_replaceable(path: Path) -> Path:
    """Return the file to which a path leads through links, if this process may replace or create it.

    Raise ``ForeignOwnerError`` for a file of another account, and for a link that neither this account nor the
    superuser owns. Raise ``OSError`` for a directory, a device or a pipe, and for a loop of links.
    """
    target = _follow_links(path)
    try:
        status = target.lstat()
    except FileNotFoundError:
        return target
    if not stat.S_ISREG(status.st_mode):
        number = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
        raise OSError(number, "it is not a regular file", str(target))
    if status.st_uid != os.geteuid():
        raise ForeignOwnerError(target, status.st_uid)
    return target


def _follow_links(path: Path) -> Path:
    for _ in range(MAX_LINKS):
        if not path.is_symlink():
            return path
        if (owner := path.lstat().st_uid) not in {os.geteuid(), SUPERUSER}:
            raise ForeignOwnerError(path, owner)
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file by some content, whole or not at all; only its owner can read it."""
    with reserve_replacement(path) as write:
        write(content)


def _overwrite(target: Path, content: bytes) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor
        _write_all(file, content)


def _write_all(file: FileIO, content: bytes) -> None:
    """Overwrite a file with the content and synchronize it. Space that was reserved before is used again."""
    file.seek(0)
    remaining = memoryview(content)
    while remaining:
        remaining = remaining[file.write(remaining) :]
    file.truncate()
    os.fsync(file.fileno())

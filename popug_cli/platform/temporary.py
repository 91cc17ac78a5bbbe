"""Temporary files and directories: random names, created exclusively, and locked while their process lives.

The kernel releases the lock (flock(2)) when the process ends, also after ``kill -9``. So a later process can find what
a dead one left behind and remove it. A process id would not suffice: ids are reused, and differ in a container.
See ``decisions/0045-temporary-files-are-locked-by-their-process.md``.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

SUFFIX = ".popug"
RANDOM_BYTES = 8
MAX_LABEL_BYTES = 100
_NAME = re.compile(r"\.(.*)\.[0-9a-f]{16}\.popug", re.DOTALL)


def unnamed_file() -> BinaryIO:
    """Return a file that disappears when it is closed: in the temporary directory, or in memory if there is none.

    Raise ``OSError``.
    """
    from tempfile import TemporaryFile

    try:
        return TemporaryFile()
    except OSError:
        if not hasattr(os, "memfd_create"):
            raise
    return open(os.memfd_create("popug"), "w+b")  # noqa: PTH123 - a descriptor


def temporary_path(path: Path) -> Path:
    """Return a random hidden name next to a path; it contains the beginning of the path's own name."""
    return path.with_name(f".{_label(path)}.{os.urandom(RANDOM_BYTES).hex()}{SUFFIX}")


@contextmanager
def temporary_file(path: Path) -> Iterator[tuple[int, Path]]:
    """Create a locked file next to a path, readable for its owner only; yield its descriptor and its path.

    At the end the descriptor is closed, and the file is removed unless it was moved. Raise ``OSError``.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        temporary = temporary_path(path)
        descriptor = os.open(temporary, flags, 0o600)
        try:
            if _lock(descriptor, temporary):
                yield descriptor, temporary
                return
        finally:
            with suppress(OSError):  # the next process removes it
                temporary.unlink(missing_ok=True)
            os.close(descriptor)


@contextmanager
def temporary_directory(path: Path) -> Iterator[Path]:
    """Create a locked directory next to a path, accessible to its owner only, and yield its path.

    At the end it is removed if it is empty; the caller removes its content. Raise ``OSError``.
    """
    while True:
        temporary = temporary_path(path)
        temporary.mkdir(mode=0o700)
        descriptor = None
        try:
            descriptor = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            if _lock(descriptor, temporary):
                yield temporary
                return
        except FileNotFoundError:
            if descriptor is not None or temporary.exists():
                raise
        finally:
            with suppress(OSError):
                temporary.rmdir()
            if descriptor is not None:
                os.close(descriptor)


def is_temporary(path: Path) -> bool:
    """Return whether the name of a path is one that ``temporary_path`` returns."""
    return _NAME.fullmatch(path.name) is not None


def _lock(descriptor: int, path: Path) -> bool:
    """Lock a file or directory that was just created; return False if another process removed it before the lock.

    A file system without such locks is accepted: there, ``dead_paths`` finds nothing.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        return True
    return _names(path, descriptor)


def paths(directory: Path, target: Path | None = None) -> list[Path]:
    """Return the temporary files, directories and links in a directory that belong to this account, sorted by name.

    ``target`` limits them to those that were created next to that path. A directory that cannot be read has none.
    """
    label = None if target is None else _label(target)
    try:
        names = [name for name in os.listdir(directory) if name.endswith(SUFFIX)]  # noqa: PTH208 - during every command
    except OSError:
        return []
    matches = filter(None, map(_NAME.fullmatch, sorted(names)))
    found = [directory / match[0] for match in matches if label in {None, match[1]}]
    return [path for path in found if _is_own(path)]


def dead_paths(directory: Path, target: Path | None = None) -> Iterator[Path]:
    """Yield those of ``paths`` whose process has ended; each is locked until the next one is requested."""
    for path in paths(directory, target):
        with locked_if_dead(path) as is_dead:
            if is_dead:
                yield path


@contextmanager
def locked_if_dead(path: Path) -> Iterator[bool]:
    """Yield whether no process holds the lock of a file or directory, and hold it during the block.

    A link counts as dead.
    """
    if path.is_symlink():
        yield True
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        yield _try_lock(descriptor) and _names(path, descriptor)
    finally:
        os.close(descriptor)


def remove_dead_files(directory: Path, target: Path | None = None) -> list[Path]:
    """Remove the temporary files of dead processes from a directory, and return their paths; see ``dead_paths``."""
    removed = []
    for path in dead_paths(directory, target):
        if path.is_file() and not path.is_symlink():
            with suppress(OSError):
                path.unlink()
                removed.append(path)
    return removed


def _label(path: Path) -> str:
    return os.fsencode(path.name)[:MAX_LABEL_BYTES].decode(errors="ignore")


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _names(path: Path, descriptor: int) -> bool:
    """Return whether a path names the open file."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except OSError:
        return False


def _is_own(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.geteuid()
    except OSError:
        return False

"""Translate errors of the operating system about files and disks into errors with a sentence and a hint."""

import errno
import os
from pathlib import Path

from popug_cli.kernel.errors import InvalidInput, PopugError, Unavailable
from popug_cli.platform.posix_errors import (
    DISK_FAILURE,
    NO_SPACE,
    NOT_FOUND,
    NOT_PERMITTED,
    OUT_OF_RESOURCES,
    UNUSABLE_PATH,
    file_size_limit,
    nearest_directory,
)


def disk_full(path: Path) -> Unavailable:
    """A full disk, with the space that is left; or a file as large as this process may make one."""
    import shutil

    directory = nearest_directory(path)
    try:
        free_bytes = shutil.disk_usage(directory).free
        free = f"{free_bytes // 1024:,} KiB"
    except OSError:
        free_bytes, free = 0, "no space"
    limit_bytes = file_size_limit()
    if limit_bytes is not None and free_bytes > limit_bytes:
        sentence = f"No file in {directory} may grow beyond {limit_bytes // 1024:,} KiB by this process."
        return Unavailable("disk_full", sentence, hint="Raise that limit (`ulimit -f`), then try again.")
    return Unavailable(
        "disk_full", f"The disk is full ({free} left at {directory}).", hint="Free some space, then try again."
    )


def io_error(where: str, why: str) -> Unavailable:
    """A disk that fails."""
    return Unavailable("io_error", f"Reading or writing {where} failed: {why}.", hint="Check the disk, then try again.")


def write_error(file: Path, error: OSError) -> Unavailable:
    """What the disk has against a file."""
    return disk_full(file) if error.errno in NO_SPACE else io_error(str(file), str(error.strerror))


def in_doubt(fault: PopugError) -> Unavailable:
    """A fault after which nobody knows whether what it met will be found done."""
    sentence = f"{fault.message} It may have been done all the same."
    return Unavailable("in_doubt", sentence, hint="Look with another command before you repeat it.")


def from_os_error(error: OSError, where: str) -> PopugError | None:
    """What the system refuses of a place, as a fault of that place; None for what is none of it."""
    if error.errno in NO_SPACE:
        return disk_full(Path(where))
    if error.errno in DISK_FAILURE:
        return io_error(where, error.strerror or str(error))
    if error.errno in OUT_OF_RESOURCES:
        sentence = f"The system gives popug no more of what it needs: {error.strerror}."
        return Unavailable("io_error", sentence, hint="Raise the limit (`ulimit -a`), or end other programs.")
    return _unusable_path(error, where)


def unwritable(path: Path, error: OSError | ValueError) -> PopugError:
    """Why a file or directory that was asked for cannot be written: a fault of the place, or no place to write to."""
    fault = from_os_error(error, str(path)) if isinstance(error, OSError) else None
    if fault is not None and fault.code in {"disk_full", "io_error"}:
        return fault
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    hint = "Name a file in a directory that you may write to."
    return InvalidInput("unwritable_file", f"{path} cannot be written: {reason}.", hint=hint)


def _unusable_path(error: OSError, where: str) -> PopugError | None:
    """A place that cannot be used as what it is."""
    elsewhere = "Choose another with --home."
    if error.errno in NOT_PERMITTED:
        what = "written" if error.errno == errno.EROFS or os.access(where, os.R_OK) else "read or written"
        return Unavailable("read_only", f"{where} may not be {what}.", hint="Check its owner and permissions.")
    if error.errno in NOT_FOUND:
        return Unavailable("read_only", f"{where} is not there, and popug cannot make it.", hint=elsewhere)
    if error.errno in UNUSABLE_PATH:
        sentence = f"{where} is {'a directory' if error.errno == errno.EISDIR else 'no directory that can be used'}."
        return Unavailable("read_only", sentence, hint=elsewhere)
    return None

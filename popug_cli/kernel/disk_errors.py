"""Translate disk errors and refusals of the operating system into ``PopugError``."""

import errno
import os
from pathlib import Path

from popug_cli.kernel.errors import InvalidInput, PopugError, Unavailable
from popug_cli.platform.accounts import SUPERUSER, ForeignOwnerError, describe_account
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
    """Return the error for a full disk, with its free space, or for a file at this process's size limit."""
    import shutil

    directory = nearest_directory(path)
    try:
        free_bytes = shutil.disk_usage(directory).free
        free = f"{free_bytes // 1024:,} KiB"
    except OSError:
        free_bytes, free = 0, "no space"
    limit_bytes = file_size_limit()
    if limit_bytes is not None and free_bytes > limit_bytes:
        sentence = f"This process may not make a file in {directory} larger than {limit_bytes // 1024:,} KiB."
        return Unavailable("disk_full", sentence, hint="Raise that limit (`ulimit -f`), then try again.")
    return Unavailable(
        "disk_full", f"The disk is full ({free} left at {directory}).", hint="Free some space, then try again."
    )


def io_error(path: str, reason: str) -> Unavailable:
    """Return the error for a failed read or write of a path."""
    return Unavailable(
        "io_error", f"Reading or writing {path} failed: {reason}.", hint="Check the disk, then try again."
    )


def write_error(file: Path, error: OSError) -> Unavailable:
    """Return the error for a failed write to a file: ``disk_full`` or ``io_error``."""
    return disk_full(file) if error.errno in NO_SPACE else io_error(str(file), str(error.strerror))


def in_doubt(error: PopugError) -> Unavailable:
    """Return the error ``in_doubt`` for an operation that failed with ``error`` but may have taken effect."""
    sentence = f"{error.message} It may have taken effect all the same."
    return Unavailable("in_doubt", sentence, hint="Look with another command before you repeat it.")


def from_os_error(error: OSError, path: str) -> PopugError | None:
    """Return the environment error for an operating system error at a path, or None if it is not one."""
    if isinstance(error, ForeignOwnerError):
        return foreign_owner(error)
    if error.errno in NO_SPACE:
        return disk_full(Path(path))
    if error.errno in DISK_FAILURE:
        return io_error(path, error.strerror or str(error))
    if error.errno in OUT_OF_RESOURCES:
        sentence = f"The operating system refused popug a resource: {error.strerror}."
        return Unavailable("io_error", sentence, hint="Raise the limit (`ulimit -a`), or end other programs.")
    return _unusable_path(error, path)


def foreign_owner(error: ForeignOwnerError) -> Unavailable:
    """Return the error for a file, link or directory of another account."""
    file, owner = error.filename, describe_account(error.owner)
    sentence = f"{file} belongs to {owner}, and this command runs as {describe_account(os.geteuid())}."
    hint = "Run it as that account, or name another file."
    if error.owner == SUPERUSER:
        hint = f"{_take_back(file)}, or name another file."
    return Unavailable("foreign_owner", sentence, hint=hint, details={"path": file, "owner": error.owner})


def owner_note(path: str | os.PathLike[str]) -> tuple[str, str]:
    """Return a clause that names the other account that owns a file, and a hint; both empty if this account owns it.

    Earlier versions left such files if one command was run with sudo. If the file is not visible, the note is about the
    directory that hides it.
    """
    file = Path(path)
    nearest = next((each for each in (file, *file.parents) if os.access(each, os.F_OK)), file)
    try:
        owner = nearest.lstat().st_uid
    except OSError:
        return "", ""
    if owner == os.geteuid() or (nearest != file and os.access(nearest, os.X_OK)):
        return "", ""
    if nearest != file:
        return f": {nearest} belongs to {describe_account(owner)}", "Run popug as that account, or choose another path."
    hint = f"{_take_back(os.fspath(path))}, then try again." if owner == SUPERUSER else "Run popug as that account."
    return f": it belongs to {describe_account(owner)}", hint


def _take_back(file: str) -> str:
    import shlex

    return f"Take it back with `sudo chown {os.geteuid()} {shlex.quote(file)}`"


def current_directory_deleted() -> InvalidInput:
    """Return the error ``usage`` for a relative path while the current directory does not exist."""
    sentence = "The current directory does not exist any more, so a relative path cannot be used."
    return InvalidInput("usage", sentence, hint="Run `cd` to go to another directory, or give an absolute path.")


def is_lost(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is relative to a current directory that does not exist any more."""
    if Path(path).is_absolute():
        return False
    try:
        os.getcwd()  # noqa: PTH109 - Path.cwd is the same call
    except FileNotFoundError:
        return True
    return False


def unreadable(path: str | os.PathLike[str], error: OSError | ValueError, *, hint: str) -> InvalidInput:
    """Return the error for a file of the user's choice that cannot be read: ``unreadable_file`` or ``usage``."""
    if is_lost(path):
        return current_directory_deleted()
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InvalidInput("unreadable_file", f"{os.fspath(path)} cannot be read: {reason}.", hint=hint)


def unwritable(path: Path, error: OSError | ValueError) -> PopugError:
    """Return the error for a file or directory of the user's choice that cannot be written.

    It is ``disk_full``, ``io_error``, ``foreign_owner``, ``unwritable_file`` for a wrong choice, or ``usage``.
    """
    if is_lost(path):
        return current_directory_deleted()
    translated = from_os_error(error, str(path)) if isinstance(error, OSError) else None
    if translated is not None and translated.code in {"disk_full", "io_error", "foreign_owner"}:
        return translated
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    hint = "Name a file in a directory that you may write to."
    return InvalidInput("unwritable_file", f"{path} cannot be written: {reason}.", hint=hint)


def _unusable_path(error: OSError, path: str) -> PopugError | None:
    """Return ``read_only`` for a path that is missing, not permitted or of the wrong kind; None for other errors."""
    hint = "Choose another with --home."
    if error.errno in NOT_PERMITTED:
        access = "written" if error.errno == errno.EROFS or os.access(path, os.R_OK) else "read or written"
        reason, hint = owner_note(path) if error.errno != errno.EROFS else ("", "")
        return Unavailable(
            "read_only", f"{path} may not be {access}{reason}.", hint=hint or "Check its owner and permissions."
        )
    if error.errno in NOT_FOUND:
        return Unavailable("read_only", f"{path} does not exist, and popug cannot create it.", hint=hint)
    if error.errno in UNUSABLE_PATH:
        sentence = f"{path} is {'a directory' if error.errno == errno.EISDIR else 'not a usable directory'}."
        return Unavailable("read_only", sentence, hint=hint)
    return None

"""Identity and fingerprint of a file: whether a path still names the file that was opened, and whether it changed.

A restore exchanges the whole directory of a company while others have its files open. Without this check they would
write to a database that has no name any more; see
``decisions/0013-a-backup-is-a-verified-zip-a-restore-swaps-two-directories.md``.
"""

import os
from pathlib import Path

FileId = tuple[int, int]
FileFingerprint = tuple[int, ...]


def file_id(file: Path) -> FileId | None:
    """Which file it is that has this name now; None where there is none."""
    try:
        status = os.stat(file)  # noqa: PTH116 - on the way of every write
    except OSError:
        return None
    return status.st_dev, status.st_ino


def file_fingerprint(path: os.PathLike[str]) -> FileFingerprint:
    """Return what changes whenever the file is replaced or written; nothing where there is no file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - on the way of every request
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

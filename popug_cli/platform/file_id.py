"""Identity and fingerprint of a file: whether a path still names the file that was opened, and whether it changed.

A restore exchanges the directory of a company while other processes have its files open; an operator may also copy a
database back under a running server. Without this check a process writes to files that no longer have a name. That was
observed on a served home: a close was acknowledged and mailed, and then lost. See
``decisions/0013-a-backup-is-a-verified-zip-a-restore-swaps-two-directories.md`` and
``decisions/0034-os-errors-are-environment-errors.md``.
"""

import os
from typing import NamedTuple

FileId = tuple[int, int]


class FileFingerprint(NamedTuple):
    """The properties of a file that change when it is replaced, written, cut or given other permissions."""

    id: FileId
    size_bytes: int
    modified_ns: int
    mode: int


def file_id(path: str | os.PathLike[str]) -> FileId | None:
    """Return which file the path names now, or None if it names none."""
    fingerprint = file_fingerprint(path)
    return None if fingerprint is None else fingerprint.id


def file_fingerprint(path: str | os.PathLike[str]) -> FileFingerprint | None:
    """Return the fingerprint of the file that the path names now, or None if it names none."""
    try:
        return require_fingerprint(path)
    except OSError:
        return None


def require_fingerprint(path: str | os.PathLike[str]) -> FileFingerprint:
    """Return the fingerprint of the file that the path names now; raise ``OSError`` if it names none."""
    status = os.stat(path)  # noqa: PTH116 - during every write and every request
    return FileFingerprint((status.st_dev, status.st_ino), status.st_size, status.st_mtime_ns, status.st_mode)

"""Kinds of errno: a full disk, a failing one, too few resources, a path that cannot be used; and a disk probe.

Without the probe, a full disk would be reported as a failing one. SQLite reports it as "disk I/O error" or "unable to
open database file", whichever file was touched first; the harness ``tests/simulation/fault`` observed this by refusing
each system call of a day in turn. So a probe writes a little more and returns the errno. See
``decisions/0018-disk-failures-we-handle.md`` and, for the other errnos,
``decisions/0034-os-errors-are-environment-errors.md``.
"""

import errno
from pathlib import Path

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
NO_SPACE = DISK_FULL | {errno.EFBIG}  # EFBIG: the file-size limit of the process
DISK_FAILURE = frozenset({errno.EIO, errno.ESTALE, errno.EREMOTEIO})
OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
NOT_PERMITTED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
NOT_FOUND = frozenset({errno.ENOENT, errno.ENXIO, errno.ENODEV})
UNUSABLE_PATH = frozenset({errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG})
NO_DIRECTORY_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EACCES})
PROBE_BYTES = 16 * 1024
MAX_WRITE_BYTES = 64 * 1024


def probe_write_error(path: Path) -> int | None:
    """Write a small probe file near a path, and return the errno of the failure, or None if it succeeded."""
    from tempfile import TemporaryFile

    try:
        with TemporaryFile(dir=nearest_directory(path)) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
    except OSError as error:
        return error.errno
    return None


def file_size_limit() -> int | None:
    """Return the largest size in bytes of a file that this process may write, or None if there is no limit."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if soft == resource.RLIM_INFINITY else soft


def is_at_limit(*files: Path) -> bool:
    """Return whether one of the files is within one write of the process's file-size limit."""
    limit_bytes = file_size_limit()
    sizes = [file.stat().st_size for file in files if file.exists()]
    return limit_bytes is not None and max(sizes, default=0) > limit_bytes - MAX_WRITE_BYTES


def nearest_directory(start: Path) -> Path:
    """Return the path if it is a directory, else its nearest parent that is one."""
    return next((directory for directory in (start, *start.parents) if directory.is_dir()), Path.cwd())

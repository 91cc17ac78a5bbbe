"""What an errno means: a full disk, a file-size limit, and a probe for what SQLite does not tell apart.

SQLite reports a full disk as "disk I/O error" or "unable to open database file", whichever file was touched first. So
``probe_write_error`` writes a little more and returns the errno; see ``decisions/0018-disk-failures-we-handle.md``.
"""

import errno
from pathlib import Path

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
PROBE_BYTES = 16 * 1024
MAX_WRITE_BYTES = 64 * 1024


def probe_write_error(path: Path) -> int | None:
    """The error with which the disk refuses a little more at a place; None where it takes it."""
    from tempfile import TemporaryFile

    try:
        with TemporaryFile(dir=nearest_directory(path)) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
    except OSError as error:
        return error.errno
    return None


def file_size_limit() -> int | None:
    """How many bytes a file that this process writes may have; None where that is not limited."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if soft == resource.RLIM_INFINITY else soft


def is_at_limit(*files: Path) -> bool:
    """Whether one of some files is as large as this process may make it, but for less than is written at once."""
    limit_bytes = file_size_limit()
    sizes = [file.stat().st_size for file in files if file.exists()]
    return limit_bytes is not None and max(sizes, default=0) > limit_bytes - MAX_WRITE_BYTES


def nearest_directory(start: Path) -> Path:
    """The directory that is there, of a path that may not be."""
    return next((directory for directory in (start, *start.parents) if directory.is_dir()), Path.cwd())

"""Where a home must not lie: on file systems of a network or of a program, whose locks do not reach every process."""

import os
import re
from pathlib import Path

from popug_cli.kernel.errors import Unavailable

MOUNTINFO = Path("/proc/self/mountinfo")
OF_A_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ncpfs", "fuse", "fuseblk"})
OF_A_PROGRAM = "fuse."
MARK_OF_A_COPY = ".workplace"
LOCAL_ALL_THE_SAME = frozenset({"fuse.fuse-overlayfs"})
_ESCAPED = re.compile(r"\\([0-7]{3})")


def check_locks(place: Path) -> None:
    """Raise ``no_locks`` where the file system of a place is known to be without locks that can be trusted.

    A marked copy, such as that of a backup, is taken anywhere: only the process that makes it opens it.
    """
    try:
        mounts = MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # not a Linux, or one that does not tell
        return
    kind = kind_without_locks(os.path.realpath(place), mounts)
    if kind is not None and not (place / MARK_OF_A_COPY).exists():
        raise Unavailable(
            "no_locks",
            f"{place} lies on a file system ({kind}) on which SQLite cannot keep two processes apart.",
            hint="Choose a home on a disk of this machine with --home DIR; others reach it over `popug serve`.",
            details={"home": str(place), "file_system": kind},
        )


def kind_without_locks(path: str, mounts: str) -> str | None:
    """The type of the file system that holds an absolute path, by the text of ``mountinfo``; None where it has locks.

    Of the mounts that hold it the deepest counts, of several in one place the last.
    """
    held = ""
    found = None
    for line in mounts.split("\n"):
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = _ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), fields[4])
        if len(point) >= len(held) and _holds(point, path):
            held, found = point, after.split(" ", 1)[0]
    return found if found is not None and _is_without_locks(found) else None


def _holds(point: str, path: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def _is_without_locks(kind: str) -> bool:
    return kind in OF_A_NETWORK or (kind.startswith(OF_A_PROGRAM) and kind not in LOCAL_ALL_THE_SAME)

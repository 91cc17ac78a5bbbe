"""Refuse homes on network and FUSE file systems, whose locks do not reach every process (except fuse-overlayfs)."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from popug_cli.kernel.errors import Unavailable

MOUNTINFO = Path("/proc/self/mountinfo")
TYPES_WITHOUT_LOCKS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ncpfs", "fuse", "fuseblk"})
FUSE_PREFIX = "fuse."
TEMP_HOME_MARKER = ".workplace"
LOCAL_FUSE_TYPES = frozenset({"fuse.fuse-overlayfs"})
_ESCAPED = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """The fields of a ``mountinfo`` line that show which file system holds a path; see proc_pid_mountinfo(5)."""

    mount_id: str
    parent_id: str
    mount_point: str
    type: str


def require_lock_support(home: Path, database: Path) -> None:
    """Raise ``no_locks`` if the home or its database lies on a file system without reliable locks.

    A temporary home is accepted anywhere: only the process that creates it opens it.
    """
    try:
        mounts = MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # not Linux, or /proc is not mounted
        return
    kinds = (kind_without_locks(os.path.realpath(path), mounts) for path in (home, database))
    kind = next((kind for kind in kinds if kind is not None), None)
    if kind is not None and not (home / TEMP_HOME_MARKER).exists():
        raise Unavailable(
            "no_locks",
            f"{home} lies on a file system ({kind}) whose locks do not protect SQLite's database.",
            hint="Choose a home on a disk of this machine with --home DIR; others reach it over `popug serve`.",
            details={"home": str(home), "file_system": kind},
        )


def kind_without_locks(path: str, mounts: str) -> str | None:
    """Return the type of the file system that holds an absolute path, or None if its locks are reliable.

    ``mounts`` is the text of ``mountinfo``. The path is resolved as the kernel does: from the root to the nearest mount
    point on the path, and from that mount to the next. A mount that a later one hides is never reached.
    """
    containing = [mount for mount in _mounts(mounts) if _contains(mount.mount_point, path)]
    mount_ids = {mount.mount_id for mount in containing}
    candidates = [mount for mount in containing if mount.parent_id not in mount_ids - {mount.mount_id}]
    kind = ""
    while candidates:
        nearest = min(candidates, key=lambda mount: len(mount.mount_point))
        kind = nearest.type
        candidates = [mount for mount in containing if mount.parent_id == nearest.mount_id != mount.mount_id]
    return kind if _is_without_locks(kind) else None


def _mounts(text: str) -> Iterator[Mount]:
    for line in text.split("\n"):
        mount_fields, separator, super_fields = line.partition(" - ")
        fields = mount_fields.split(" ")
        if separator and len(fields) >= 5:
            mount_point = _ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), fields[4])
            yield Mount(fields[0], fields[1], mount_point, super_fields.split(" ", 1)[0])


def _contains(mount_point: str, path: str) -> bool:
    return path == mount_point or path.startswith(mount_point.rstrip("/") + "/")


def _is_without_locks(kind: str) -> bool:
    return kind in TYPES_WITHOUT_LOCKS or (kind.startswith(FUSE_PREFIX) and kind not in LOCAL_FUSE_TYPES)

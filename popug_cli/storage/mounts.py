"""Refuse homes on network, shared and FUSE file systems, whose locks and shared memory do not reach every process.

A type that is in neither list is refused if no block device of this machine holds it: then a network, or the host of a
virtual machine or a container, holds it. See
``decisions/0026-network-file-systems-are-refused-signals-clean-up-first.md``.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from popug_cli.kernel.errors import Unavailable

MOUNTINFO = Path("/proc/self/mountinfo")
TYPES_WITHOUT_LOCKS = frozenset({
    *("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "afs", "afpfs", "ncpfs", "coda", "webdav", "davfs"),
    *("9p", "virtiofs", "vboxsf", "vmhgfs", "prl_fs", "drvfs", "fakeowner", "hostfs", "hmdfs"),
    *("ceph", "lustre", "beegfs", "gpfs", "glusterfs", "orangefs", "pvfs2", "panfs", "wekafs", "gfs", "gfs2", "ocfs2"),
    *("fuse", "fuseblk"),
})  # fmt: skip
LOCAL_TYPES = frozenset({
    *("ext2", "ext3", "ext4", "xfs", "btrfs", "bcachefs", "zfs", "f2fs", "jfs", "nilfs2", "reiserfs", "ubifs"),
    *("tmpfs", "ramfs", "rootfs", "devtmpfs", "overlay", "overlayfs", "aufs", "unionfs", "shiftfs", "ecryptfs"),
    *("jffs2", "simfs", "lxfs", "wslfs", "fuse.fuse-overlayfs"),
})  # fmt: skip
NO_DEVICE_PREFIX = "0:"  # a file system without a block device has major number 0
FUSE_PREFIX = "fuse."
TEMP_HOME_MARKER = ".workplace"
_ESCAPED = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """The fields of a ``mountinfo`` line that show which file system holds a path; see proc_pid_mountinfo(5)."""

    mount_id: str
    parent_id: str
    device: str
    mount_point: str
    type: str


def require_lock_support(home: Path, database: Path) -> None:
    """Raise ``no_locks`` if the home or its database lies on a file system without reliable locks.

    A temporary home is accepted anywhere: only the process that creates it opens it.
    """
    mounts = _read_mounts() or []
    kinds = (kind_without_locks(os.path.realpath(path), mounts) for path in (home, database))
    kind = next((kind for kind in kinds if kind is not None), None)
    if kind is not None and not (home / TEMP_HOME_MARKER).exists():
        raise Unavailable(
            "no_locks",
            f"{home} lies on a file system ({kind}) whose locks do not protect SQLite's database.",
            hint="Choose a home on a disk of this machine with --home DIR (in a container: on a named volume);"
            " other machines reach it through `popug serve`.",
            details={"home": str(home), "file_system": kind},
        )


def is_mount_point(path: Path) -> bool:
    """Return whether a file system or a part of one is mounted at a path; if so, the path cannot be renamed."""
    mounts = _read_mounts()
    if mounts is None:
        return path.is_mount()
    return os.path.realpath(path) in {mount.mount_point for mount in mounts}


def kind_without_locks(path: str, mounts: Sequence[Mount]) -> str | None:
    """Return the type of the file system that holds an absolute path, or None if its locks are reliable.

    The path is resolved as the kernel does: from the root to the nearest mount point on the path, and from that mount
    to the next. A mount that a later one hides is never reached.
    """
    containing = [mount for mount in mounts if _contains(mount.mount_point, path)]
    mount_ids = {mount.mount_id for mount in containing}
    candidates = [mount for mount in containing if mount.parent_id not in mount_ids - {mount.mount_id}]
    nearest: Mount | None = None
    while candidates:
        nearest = holder = min(candidates, key=lambda mount: len(mount.mount_point))
        candidates = [mount for mount in containing if mount.parent_id == holder.mount_id != mount.mount_id]
    return nearest.type if nearest is not None and _is_without_locks(nearest) else None


def _read_mounts() -> list[Mount] | None:
    """Return the mounts that this process sees, or None if the system does not show them."""
    try:
        text = MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # not Linux, or /proc is not mounted
        return None
    return [*parse_mounts(text)]


def parse_mounts(text: str) -> Iterator[Mount]:
    """Yield the mounts in a text of ``mountinfo``, and skip lines of another form."""
    for line in text.split("\n"):
        mount_fields, separator, super_fields = line.partition(" - ")
        fields = mount_fields.split(" ")
        if separator and len(fields) >= 5:
            mount_point = _ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), fields[4])
            yield Mount(fields[0], fields[1], fields[2], mount_point, super_fields.split(" ", 1)[0])


def _contains(mount_point: str, path: str) -> bool:
    return path == mount_point or path.startswith(mount_point.rstrip("/") + "/")


def _is_without_locks(mount: Mount) -> bool:
    if mount.type in TYPES_WITHOUT_LOCKS or mount.type in LOCAL_TYPES:
        return mount.type in TYPES_WITHOUT_LOCKS
    return mount.type.startswith(FUSE_PREFIX) or mount.device.startswith(NO_DEVICE_PREFIX)

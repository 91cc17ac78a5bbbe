"""The journal of the shim: every write, sync and change of names, in order."""

import os
import struct
from pathlib import Path
from typing import NamedTuple

HEAD = struct.Struct("=iiQQQQ")
WRITE, SYNC, TRUNCATE, CREATE, DIRECTORY, REMOVE, RENAME = map(ord, "wstcmur")
DONE = ord("k")


class Record(NamedTuple):
    """One operation on the file (an inode) or name: ``other`` was renamed to ``path``."""

    kind: int
    file: int
    offset: int
    path: Path
    data: bytes = b""
    other: Path | None = None


def read(descriptor: int) -> list[Record]:
    """Return all records of a journal from an open file."""
    content = os.pread(descriptor, os.lseek(descriptor, 0, os.SEEK_END), 0)
    records, at = [], 0
    while at < len(content):
        kind, _, file, offset, size, name_size = HEAD.unpack_from(content, at)
        at += HEAD.size
        path = Path(os.fsdecode(content[at : at + name_size]))
        at += name_size
        data = content[at : at + size]
        at += size
        other = Path(os.fsdecode(data)) if kind == RENAME else None
        records.append(Record(kind, file, offset, path, data if kind == WRITE else b"", other))
    return records


def mark_done(descriptor: int) -> None:
    """Record that a command was acknowledged."""
    os.lseek(descriptor, 0, os.SEEK_END)
    os.write(descriptor, HEAD.pack(DONE, 0, 0, 0, 0, 0))

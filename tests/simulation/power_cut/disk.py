"""A disk after a power cut: what it must have kept, and what it may have kept.

Synced data is kept: the writes of a file up to its last sync, and the names of a directory up to the directory's last
sync. Any later writes may be there, whole or in sectors, in any order; and the first few later changes of names. A
rename is there or not. An index in shared memory is never there.
"""

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

from tests.simulation.power_cut import journal
from tests.simulation.power_cut.journal import Record

SECTORS = (512, 4096)
FIRST_FEW = (0, 0, 1, 2, 4, 1_000)
KEPT = ("nothing", "everything", "the first", "some", "some sectors")


@dataclass
class File:
    """The kept content of a file, and the changes since it was synced."""

    kept: bytearray = field(default_factory=bytearray)
    pending: list[Record] = field(default_factory=list)


@dataclass
class Change:
    """A change of names: the new ones, the removed ones, their directories; ``kept`` once one of these is synced."""

    added: Path | None
    file: int
    removed: Path | None
    directories: frozenset[Path]
    is_directory: bool = False
    kept: bool = False


class Disk:
    """A disk with the content of a root, to which a journal is applied."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[int, File] = {}
        self._names: dict[Path, int] = {}
        self._directories: set[Path] = {root}
        self._changes: list[Change] = []
        for path in root.rglob("*"):
            if path.is_dir():
                self._directories.add(path)
            elif not path.name.endswith("-shm"):
                self._names[path] = path.stat().st_ino
                self._files[path.stat().st_ino] = File(bytearray(path.read_bytes()))

    def take(self, record: Record) -> None:
        """Apply the next record."""
        if record.kind in {journal.WRITE, journal.TRUNCATE}:
            self._file(record.file).pending.append(record)
        elif record.kind == journal.SYNC:
            self._sync(record)
        elif record.kind == journal.CREATE:
            self._files[record.file] = File()
            self._change(record.path, record.file)
        elif record.kind == journal.DIRECTORY:
            self._change(record.path, record.file, is_directory=True)
        elif record.kind == journal.REMOVE:
            self._change(None, 0, removed=record.path)
        elif record.kind == journal.RENAME:
            self._change(record.path, record.file, removed=record.other)

    def image(self, chance: random.Random, target: Path) -> None:
        """Write into an empty directory a state that may be found when the power is back."""
        names, directories = self._surviving(chance)
        for directory in sorted(directories):
            (target / directory.relative_to(self._root)).mkdir(mode=0o700, exist_ok=True)
        fate, sector = chance.choice(KEPT), chance.choice(SECTORS)
        for path, file in names.items():
            if path.parent in directories:
                content = _survivor(self._file(file), fate, sector, chance)
                descriptor = os.open(target / path.relative_to(self._root), os.O_WRONLY | os.O_CREAT, 0o600)
                os.write(descriptor, content)
                os.close(descriptor)

    def _file(self, number: int) -> File:
        return self._files.setdefault(number, File())

    def _sync(self, record: Record) -> None:
        file = self._files.get(record.file)
        if file is not None:
            for pending in file.pending:
                _apply(pending, file.kept)
            file.pending.clear()
        for change in self._changes:
            change.kept = change.kept or record.path in change.directories

    def _change(
        self, added: Path | None, file: int, *, removed: Path | None = None, is_directory: bool = False
    ) -> None:
        directories = frozenset(path.parent for path in (added, removed) if path is not None)
        self._changes.append(Change(added, file, removed, directories, is_directory))

    def _surviving(self, chance: random.Random) -> tuple[dict[Path, int], set[Path]]:
        names, directories = dict(self._names), set(self._directories)
        touched = sorted({directory for change in self._changes for directory in change.directories})
        left = {each: chance.choice(FIRST_FEW) for each in touched}
        for change in self._changes:
            if not change.kept and not any(left[directory] > 0 for directory in change.directories):
                continue
            for directory in change.directories:
                left[directory] -= not change.kept
            if change.removed is not None:
                names.pop(change.removed, None)
                directories.discard(change.removed)
            if change.added is not None and change.is_directory:
                directories.add(change.added)
            elif change.added is not None:
                names[change.added] = change.file
        return names, {each for each in directories if all(p in directories for p in _above(each, self._root))}


def _above(directory: Path, root: Path) -> list[Path]:
    return [each for each in directory.parents if each.is_relative_to(root)]


def _survivor(file: File, fate: str, sector: int, chance: random.Random) -> bytes:
    content, first = bytearray(file.kept), chance.randint(0, len(file.pending))
    for number, record in enumerate(file.pending):
        if (
            fate == "everything"
            or (fate == "the first" and number < first)
            or (fate == "some" and chance.random() < 0.5)
        ):
            _apply(record, content)
        elif fate == "some sectors" or (fate == "the first" and number == first):
            for part in _sectors(record, sector):
                if chance.random() < 0.5:
                    _apply(part, content)
    return bytes(content)


def _sectors(record: Record, size: int) -> list[Record]:
    """Return a write in pieces that end at sector ends."""
    if record.kind != journal.WRITE:
        return [record]
    parts, at = [], 0
    while at < len(record.data):
        end = min(len(record.data), at + size - (record.offset + at) % size)
        parts.append(record._replace(offset=record.offset + at, data=record.data[at:end]))
        at = end
    return parts


def _apply(record: Record, content: bytearray) -> None:
    if record.kind == journal.TRUNCATE:
        del content[record.offset :]
        content.extend(bytes(record.offset - len(content)))
        return
    content.extend(bytes(max(0, record.offset - len(content))))
    content[record.offset : record.offset + len(record.data)] = record.data

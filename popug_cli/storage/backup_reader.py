"""Read a backup file: a zip that `popug backup` wrote, or a bare database together with its log.

The file may come from anyone. So only regular files are opened, the sizes are checked before anything is written, and
no name from the file is used as a path. ``foreign_database.py`` then checks what was unpacked.
"""

import os
import shutil
import struct
import time
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, BinaryIO

from popug_cli.kernel.disk_errors import disk_full, unreadable
from popug_cli.kernel.errors import IntegrityViolation, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.platform.file_id import FileFingerprint, file_fingerprint
from popug_cli.platform.files import OWNER_ONLY_FILE, open_regular_file
from popug_cli.platform.posix_errors import NO_SPACE, nearest_directory
from popug_cli.storage.backup_file import DATABASE, SETTINGS, SQLITE_MAGIC

LOG_SUFFIXES = ("-wal", "-journal")  # https://www.sqlite.org/tempfiles.html
SQLITE_HEADER_BYTES = 100
CLOCK_TICK_SECONDS = 0.05  # two writes within a tick of the kernel's clock leave the same modification time
MAX_COPY_ATTEMPTS = 3
MAX_SETTINGS_BYTES = 1024 * 1024
MAX_READ_BYTES = 1024 * 1024
MAX_EXPANSION = 100  # compression shrinks a database of popug to between a fifth and a thirtieth
MIN_EXPANSION_BOUND_BYTES = 64 * 1024 * 1024
CHUNK_BYTES = 256 * 1024


def unpack(file: Path, home: Home) -> None:
    """Extract database and settings of a backup, or copy a bare database with its log, into an empty home.

    Raise ``unreadable_file``, ``disk_full``, ``file_in_use`` if another process writes to a bare database, or
    ``corrupt_database`` if the file is damaged or is not a backup.
    """
    try:
        with open_regular_file(file) as stream:
            header = stream.read(SQLITE_HEADER_BYTES)
            if header.startswith(SQLITE_MAGIC):
                _copy_bare(file, header, home)
            else:
                _extract(file, stream, home)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
        raise not_a_backup(file, str(error)) from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise disk_full(home.database) from error
        path = error.filename if isinstance(error, OSError) and error.filename else file
        raise unreadable(path, error, hint="Name a file that `popug backup` wrote.") from error
    for path in (home.database, home.config):
        if path.exists():
            path.chmod(OWNER_ONLY_FILE)


def not_a_backup(file: Path, reason: str) -> IntegrityViolation:
    """Return the error for a file that is not a usable backup."""
    return IntegrityViolation(
        "corrupt_database",
        f"{file} is damaged or is not a popug backup: {reason}.",
        hint="Nothing was changed. Name a file that `popug backup` wrote.",
        details={"path": str(file)},
    )


def _copy_bare(file: Path, header: bytes, home: Home) -> None:
    """Copy a database and the logs next to it, which hold its last changes; SQLite replays them in the copy.

    SQLite looks for them next to the file to which a link leads, so a log next to the link is refused.
    """
    database = Path(os.path.realpath(file))
    for suffix in LOG_SUFFIXES:
        if database != Path(os.path.abspath(file)) and _has_other_log(file, database, suffix):
            raise not_a_backup(file, f"it is a link, and {_with_suffix(file, suffix)} is not next to its target")
    for _ in range(MAX_COPY_ATTEMPTS):
        before = _fingerprints(database)
        time.sleep(CLOCK_TICK_SECONDS)
        if before != _fingerprints(database):
            continue
        with ExitStack() as opened:
            sources = {"": opened.enter_context(open_regular_file(database))}
            for suffix in LOG_SUFFIXES:
                with suppress(FileNotFoundError):
                    sources[suffix] = opened.enter_context(open_regular_file(_with_suffix(database, suffix)))
            _check_sizes(file, header, sources, home)
            for suffix, source in sources.items():
                _copy(source, _with_suffix(home.database, suffix))
        if before == _fingerprints(database):
            return
    is_home = database.name == DATABASE
    raise Unavailable(
        "file_in_use",
        f"{file} was changed while it was copied, so a program has it open.",
        hint=f"Run `popug backup FILE --home {database.parent}`, and restore FILE."
        if is_home
        else "Stop that program, then try again.",
        details={"path": str(file)},
    )


def _has_other_log(file: Path, database: Path, suffix: str) -> bool:
    """Return whether a log next to the link `file` is another one than the log next to the link's target."""
    log_next_to_link = _with_suffix(file, suffix)
    log_of_target = _with_suffix(database, suffix)
    return os.path.lexists(log_next_to_link) and os.path.realpath(log_next_to_link) != str(log_of_target)


def _fingerprints(database: Path) -> list[FileFingerprint | None]:
    return [file_fingerprint(_with_suffix(database, suffix)) for suffix in ("", *LOG_SUFFIXES)]


def _with_suffix(database: Path, suffix: str) -> Path:
    return database.with_name(f"{database.name}{suffix}")


def _check_sizes(file: Path, header: bytes, sources: Mapping[str, BinaryIO], home: Home) -> None:
    """Raise an error for a database that does not fit on the disk, or that is longer than its header says."""
    sizes = {suffix: os.fstat(source.fileno()).st_size for suffix, source in sources.items()}
    has_log = any(size for suffix, size in sizes.items() if suffix)
    if not has_log and len(header) == SQLITE_HEADER_BYTES:
        (page_bytes,), (changes, pages), (valid_for,) = (
            struct.unpack_from(">H", header, 16),
            struct.unpack_from(">II", header, 24),
            struct.unpack_from(">I", header, 92),
        )  # https://www.sqlite.org/fileformat.html
        if pages and changes == valid_for and sizes[""] > pages * (65536 if page_bytes == 1 else page_bytes):
            raise not_a_backup(file, "it is longer than its header says")
    _require_space(file, sum(sizes.values()), home)


def _require_space(file: Path, needed_bytes: int, home: Home) -> None:
    directory = nearest_directory(home.root)
    free_bytes = shutil.disk_usage(directory).free
    if needed_bytes > free_bytes:
        raise Unavailable(
            "disk_full",
            f"{file} needs {needed_bytes // 1024:,} KiB, but only {free_bytes // 1024:,} KiB are left at {directory}.",
            hint="Free some space, then try again.",
        )


def _copy(source: IO[bytes], target: Path) -> None:
    with target.open("xb") as copy:
        shutil.copyfileobj(source, copy, CHUNK_BYTES)
        copy.flush()
        os.fsync(copy.fileno())


def _extract(file: Path, stream: BinaryIO, home: Home) -> None:
    """Extract only the two known members of a backup, to fixed paths: never to a path from the archive."""
    max_bytes = max(MIN_EXPANSION_BOUND_BYTES, MAX_EXPANSION * os.fstat(stream.fileno()).st_size)
    with zipfile.ZipFile(_BoundedReader(stream)) as archive:
        names = archive.namelist()
        for log in (f"{DATABASE}{suffix}" for suffix in LOG_SUFFIXES):
            if log in names and archive.getinfo(log).file_size:
                raise not_a_backup(file, f"it has {log}, so it is a copy of a home; unpack it and name its {DATABASE}")
        for name, target, bound in ((DATABASE, home.database, max_bytes), (SETTINGS, home.config, MAX_SETTINGS_BYTES)):
            if name == SETTINGS and name not in names:
                continue
            if names.count(name) > 1:
                raise not_a_backup(file, f"it has two files named {name}")
            member = archive.getinfo(name)
            if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise not_a_backup(file, f"{name} in it is compressed with a method that popug does not use")
            if member.file_size > bound:
                raise not_a_backup(file, f"{name} in it would grow to {member.file_size // 1024:,} KiB")
            _require_space(file, member.file_size, home)
            with archive.open(member) as source:
                _copy(source, target)


class _BoundedReader:
    """A file for ``zipfile`` that refuses to read a large part at once, such as an endless central directory."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable

    def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes, or the rest; raise ``BadZipFile`` if that is more than ``MAX_READ_BYTES``."""
        content = self._stream.read(min(size, MAX_READ_BYTES + 1) if size >= 0 else MAX_READ_BYTES + 1)
        if len(content) > MAX_READ_BYTES:
            raise zipfile.BadZipFile("its directory is too long")
        return content

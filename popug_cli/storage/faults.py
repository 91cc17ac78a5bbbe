"""Faults of the place, told apart from faults of the program: each has its sentence and its exit code."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from popug_cli.kernel.errors import IntegrityFault, PopugError, Unavailable

_PRIMARY = 0xFF
SIGNS_OF_DAMAGE = ("malformed JSON", "Could not decode to UTF-8")


@contextmanager
def translated(database: Path) -> Iterator[None]:
    """Turn what SQLite says of the place (busy, full, read-only, corrupt) into errors with a way out."""
    try:
        yield
    except (DBAPIError, sqlite3.Error, OSError, UnicodeDecodeError) as error:
        found = place_fault(error, database)
        if found is None:
            raise
        raise found from error


def place_fault(error: BaseException, database: Path) -> PopugError | None:
    """The error with a sentence for a fault of the place; None for a fault of the program or of its input."""
    if isinstance(error, DBAPIError):
        error = error.orig if isinstance(error.orig, sqlite3.Error) else error
    if isinstance(error, OSError):
        return _os_fault(error)
    if isinstance(error, UnicodeDecodeError):  # by what SQLite quotes of a damaged schema
        return corrupt(database, "it holds bytes that are no text")
    if isinstance(error, sqlite3.Error) and any(sign in str(error) for sign in SIGNS_OF_DAMAGE):
        return corrupt(database, str(error))
    code = getattr(error, "sqlite_errorcode", None)
    return _sqlite_fault(code & _PRIMARY, error, database) if isinstance(code, int) else None


def _sqlite_fault(code: int, error: BaseException, database: Path) -> PopugError | None:
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return Unavailable("database_busy", "Another process holds the database.", hint="Try again in a moment.")
    if code == sqlite3.SQLITE_FULL:
        return disk_full(database)
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}:
        return Unavailable(
            "read_only",
            f"{database} cannot be opened for writing.",
            hint=f"Check who owns {database.parent} and that its file system is writable.",
        )
    if code == sqlite3.SQLITE_IOERR:
        sentence = f"Reading or writing {database} failed: {error}."
        return Unavailable("io_error", sentence, hint="Check the disk, then try again.")
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return corrupt(database, str(error))
    return None


def _os_fault(error: OSError) -> PopugError | None:
    import errno

    where = os.fspath(error.filename) if isinstance(error.filename, str | os.PathLike) else "the home"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return disk_full(Path(where))
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return Unavailable("read_only", f"{where} may not be written.", hint="Check its owner and permissions.")
    if error.errno in {errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG}:
        sentence = f"{where} is no directory that can be used."
        return Unavailable("read_only", sentence, hint="Choose another with --home.")
    return None


def disk_full(place: Path) -> Unavailable:
    """A full disk, with the space that is left."""
    try:
        free = f"{shutil.disk_usage(place if place.exists() else place.parent).free // 1024:,} KiB"
    except OSError:
        free = "no space"
    return Unavailable(
        "disk_full", f"The disk is full ({free} left at {place.parent}).", hint="Free some space, then try again."
    )


def corrupt(database: Path, why: str) -> IntegrityFault:
    """A file that is no sound SQLite database."""
    return IntegrityFault(
        "corrupt_database",
        f"{database} is damaged or no popug database: {why}.",
        hint="Run `popug doctor`; a good copy may lie under backups/.",
    )

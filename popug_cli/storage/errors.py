"""Translate environment errors (disk full, database locked, read-only or corrupt) into ``PopugError``.

Other errors, such as those of a bug, are left as they are.
"""

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from popug_cli.kernel.disk_errors import disk_full, from_os_error, io_error, owner_note
from popug_cli.kernel.errors import IntegrityViolation, PopugError, Unavailable
from popug_cli.kernel.stored_values import InvalidStoredValue
from popug_cli.platform.posix_errors import NO_SPACE, is_at_limit, probe_write_error
from popug_cli.platform.signals import find_in_context

DATABASE_ERRORS = (sqlite3.Error,)
PRIMARY_CODE_MASK = 0xFF
OPEN_ERRORS = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH})
# Codes of errors that say that nothing was done. A command that has committed a part reports ``in_doubt`` instead.
ENVIRONMENT_CODES = frozenset(
    {
        "clock_differs",
        "database_busy",
        "database_unavailable",
        "disk_full",
        "foreign_owner",
        "home_replaced",
        "io_error",
        "newer_database",
        "read_only",
    }
)
PARTIAL_WORK_KEPT = (
    "what was written until then is kept, and the next command continues from there; look before you repeat it."
)
CORRUPTION_MESSAGES = (
    "malformed JSON",
    "Could not decode to UTF-8",
    "no such table",
    "no such column",
    "already exists",  # a migration raises this and the next one if the file does not record the last migration
    "duplicate column name",
)
# Exceptions that only the database and the decoding of stored values raise: messages are decoded earlier.
CORRUPTION_SYMPTOMS = (sqlite3.IntegrityError, msgspec.MsgspecError, InvalidStoredValue)


@contextmanager
def translate_errors(database: Path) -> Iterator[None]:
    """Translate the environment errors of SQLite and of the operating system into ``PopugError``."""
    try:
        yield
    except (*DATABASE_ERRORS, OSError, UnicodeDecodeError) as error:
        translated = environment_error(error, database)
        if translated is None:
            raise
        raise translated from error


class TransactionLost(Unavailable):
    """The database server ended a transaction, or the connection to it; nothing was changed, and it may run again."""


@contextmanager
def treat_garbage_as_corruption(database: Path | str, *driver_errors: type[Exception]) -> Iterator[None]:
    """Raise ``corrupt_database`` instead of an exception that invalid stored data causes, or of ``driver_errors``.

    Any other ``ValueError`` or ``TypeError`` is a bug and passes.
    """
    try:
        yield
    except CORRUPTION_SYMPTOMS + driver_errors as error:
        if _is_during_interrupt(error):
            raise
        corruption = corrupt(database, f"its data is not valid ({type(error).__name__}: {error})")
        corruption.hint += " If the doctor finds nothing, report what POPUG_TRACEBACK=1 shows."
        raise corruption from error


def _is_during_interrupt(error: BaseException) -> bool:
    """Return whether an error was raised while a signal or Ctrl-C ended the work."""
    return find_in_context(error, BaseException, except_for=(Exception,)) is not None


def environment_error(error: BaseException, database: Path) -> PopugError | None:
    """Return the ``PopugError`` for an environment error; None for a bug or an invalid input."""
    if isinstance(error, OSError):
        return _os_error(error, database)
    if (postgres := sys.modules.get("popug_cli.storage.postgres.errors")) is not None:
        return postgres.environment_error(error) or _file_error(error, database)
    return _file_error(error, database)


def _file_error(error: BaseException, database: Path) -> PopugError | None:
    if isinstance(error, UnicodeDecodeError):  # SQLite quotes a damaged schema in its message
        return corrupt(database, "it contains bytes that are not text")
    if isinstance(error, sqlite3.Error) and any(fragment in str(error) for fragment in CORRUPTION_MESSAGES):
        return corrupt(database, str(error))
    code = getattr(error, "sqlite_errorcode", None)
    return _sqlite_error(code & PRIMARY_CODE_MASK, error, database) if isinstance(code, int) else None


def _sqlite_error(code: int, error: BaseException, database: Path) -> PopugError | None:
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return busy()
    if code == sqlite3.SQLITE_FULL:
        return disk_full(database)
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return corrupt(database, str(error))
    return _error_after_probe(code, error, database) if code in {*OPEN_ERRORS, sqlite3.SQLITE_IOERR} else None


def _error_after_probe(code: int, error: BaseException, database: Path) -> PopugError:
    """Return the error for a full disk, a failing disk or a read-only file; a probe file shows which it is.

    A database at the process's file-size limit counts as a full disk.
    """
    probe_errno = probe_write_error(database.parent)
    if probe_errno in NO_SPACE:
        return disk_full(database)
    if code == sqlite3.SQLITE_IOERR and is_at_limit(database, database.with_name(f"{database.name}-wal")):
        return disk_full(database)
    files = (database, *(database.with_name(f"{database.name}-{name}") for name in ("wal", "shm")))
    reason, hint = next(filter(any, map(owner_note, files)), ("", ""))
    may_be_opened = (
        not reason
        and code == sqlite3.SQLITE_CANTOPEN
        and os.access(database, os.R_OK | os.W_OK)
        and probe_errno is None
    )
    if code == sqlite3.SQLITE_IOERR or may_be_opened:
        return io_error(str(database), str(error))
    return Unavailable(
        "read_only",
        f"{database} cannot be opened for writing{reason}.",
        hint=hint or f"Check who owns {database.parent} and that its file system is writable.",
    )


def _os_error(error: OSError, database: Path) -> PopugError | None:
    has_path = isinstance(error.filename, str | os.PathLike)
    return from_os_error(error, os.fspath(error.filename) if has_path else str(database.parent))


def busy() -> Unavailable:
    """Return the error for a database that another process or thread keeps locked."""
    return Unavailable("database_busy", "Another process holds the database.", hint="Try again in a moment.")


def replaced(database: Path) -> Unavailable:
    """Return the error for a database that was replaced after this process opened it."""
    sentence = f"{database} was replaced while this command had it open; nothing was written."
    return Unavailable("home_replaced", sentence, hint="Try again.")


def partly_done(error: PopugError) -> Unavailable:
    """Return the error ``in_doubt`` for a command that failed with ``error`` after a part of it was committed."""
    sentence = f"{error.message} A part of the command was done before that."
    return Unavailable("in_doubt", sentence, hint=f"{error.hint} What is done will not be repeated.")


def corrupt(database: Path | str, reason: str) -> IntegrityViolation:
    """Return the error for a file that is not a sound popug database."""
    return IntegrityViolation(
        "corrupt_database",
        f"{database} is damaged or is not a popug database: {reason}.",
        hint="Run `popug doctor`; a good copy may lie under backups/.",
    )

"""Faults of the place, told apart from faults of the program: each has its sentence and its exit code."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import IntegrityError as Contradiction

from popug_cli.kernel.disk_errors import disk_full, from_os_error, io_error
from popug_cli.kernel.errors import IntegrityViolation, PopugError, Unavailable
from popug_cli.platform.posix_errors import NO_SPACE, is_at_limit, probe_write_error
from popug_cli.platform.signals import find_in_context

_PRIMARY = 0xFF
OPEN_ERRORS = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH})
ENVIRONMENT_CODES = frozenset(
    {"database_busy", "disk_full", "home_replaced", "io_error", "newer_database", "read_only"}
)
PARTIAL_WORK_KEPT = (
    "what was written until then stays, and the next command goes on with it; look before you repeat it."
)
CORRUPTION_MESSAGES = (
    "malformed JSON",
    "Could not decode to UTF-8",
    "no such table",
    "no such column",
    "already exists",  # found by a migration in a file that does not say which it had
)
# What comes of a stored value that nobody wrote there: no date, no known word, nothing at all, against the constraints.
CORRUPTION_SYMPTOMS = (
    Contradiction,
    sqlite3.IntegrityError,
    msgspec.MsgspecError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


@contextmanager
def translate_errors(database: Path) -> Iterator[None]:
    """Turn what SQLite says of the place (busy, full, read-only, corrupt) into errors with a way out."""
    try:
        yield
    except (DBAPIError, sqlite3.Error, OSError, UnicodeDecodeError) as error:
        fault = environment_error(error, database)
        if fault is None:
            raise
        raise fault from error


@contextmanager
def treat_garbage_as_corruption(database: Path) -> Iterator[None]:
    """Say of the database that it is damaged where what was read in a transaction makes no sense."""
    try:
        yield
    except CORRUPTION_SYMPTOMS as error:
        if isinstance(error, UnicodeError) or _is_during_interrupt(error):
            raise
        cause = getattr(error, "orig", error)
        fault = corrupt(database, f"what it holds makes no sense ({type(cause).__name__}: {cause})")
        fault.hint += " If the doctor finds nothing, report what POPUG_TRACEBACK=1 shows."
        raise fault from error


def _is_during_interrupt(error: BaseException) -> bool:
    """Return whether an error was raised while a signal or Ctrl-C ended the work, as SQLAlchemy's clean-up does."""
    return find_in_context(error, BaseException, except_for=(Exception,)) is not None


def environment_error(error: BaseException, database: Path) -> PopugError | None:
    """The error with a sentence for a fault of the place; None for a fault of the program or of its input."""
    if isinstance(error, DBAPIError):
        error = error.orig if isinstance(error.orig, sqlite3.Error) else error
    if isinstance(error, OSError):
        return _os_error(error, database)
    if isinstance(error, UnicodeDecodeError):  # by what SQLite quotes of a damaged schema
        return corrupt(database, "it holds bytes that are no text")
    if isinstance(error, sqlite3.Error) and any(sign in str(error) for sign in CORRUPTION_MESSAGES):
        return corrupt(database, str(error))
    code = getattr(error, "sqlite_errorcode", None)
    return _sqlite_error(code & _PRIMARY, error, database) if isinstance(code, int) else None


def _sqlite_error(code: int, error: BaseException, database: Path) -> PopugError | None:
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return busy()
    if code == sqlite3.SQLITE_FULL:
        return disk_full(database)
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return corrupt(database, str(error))
    return _error_after_probe(code, error, database) if code in {*OPEN_ERRORS, sqlite3.SQLITE_IOERR} else None


def _error_after_probe(code: int, error: BaseException, database: Path) -> PopugError:
    """What SQLite does not tell apart, the disk does when it is asked for a little more."""
    probe_errno = probe_write_error(database.parent)
    if probe_errno in NO_SPACE:
        return disk_full(database)
    if code == sqlite3.SQLITE_IOERR and is_at_limit(database, database.with_name(f"{database.name}-wal")):
        return disk_full(database)
    may_be_opened = code == sqlite3.SQLITE_CANTOPEN and os.access(database, os.R_OK | os.W_OK) and probe_errno is None
    if code == sqlite3.SQLITE_IOERR or may_be_opened:
        return io_error(str(database), str(error))
    return Unavailable(
        "read_only",
        f"{database} cannot be opened for writing.",
        hint=f"Check who owns {database.parent} and that its file system is writable.",
    )


def _os_error(error: OSError, database: Path) -> PopugError | None:
    named = isinstance(error.filename, str | os.PathLike)
    return from_os_error(error, os.fspath(error.filename) if named else str(database.parent))


def busy() -> Unavailable:
    """Somebody writes and does not end."""
    return Unavailable("database_busy", "Another process holds the database.", hint="Try again in a moment.")


def replaced(database: Path) -> Unavailable:
    """What was opened is not the company of that home any more."""
    sentence = f"{database} was replaced while this command had it open; nothing was written."
    return Unavailable("home_replaced", sentence, hint="Try again.")


def partly_done(fault: PopugError) -> Unavailable:
    """A fault that a command met when a part of it was done."""
    sentence = f"{fault.message} A part of what was asked for was done before."
    return Unavailable("in_doubt", sentence, hint=f"{fault.hint} What is written down is not done again.")


def corrupt(database: Path, why: str) -> IntegrityViolation:
    """A file that is no sound SQLite database."""
    return IntegrityViolation(
        "corrupt_database",
        f"{database} is damaged or no popug database: {why}.",
        hint="Run `popug doctor`; a good copy may lie under backups/.",
    )

"""Faults of the place, told apart from faults of the program: each has its sentence and its exit code."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import IntegrityError as Contradiction

from popug_cli.kernel.disk import NO_SPACE, disk_full, io_error, is_at_limit, of_system, refusal
from popug_cli.kernel.errors import IntegrityFault, PopugError, Unavailable

_PRIMARY = 0xFF
UNOPENED = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH})
FAULTS = frozenset({"database_busy", "disk_full", "home_replaced", "io_error", "newer_database", "read_only"})
STAYS = "what was written until then stays, and the next command goes on with it; look before you repeat it."
SIGNS_OF_DAMAGE = (
    "malformed JSON",
    "Could not decode to UTF-8",
    "no such table",
    "no such column",
    "already exists",  # found by a migration in a file that does not say which it had
)
# What comes of a stored value that nobody wrote there: no date, no known word, nothing at all, against the constraints.
NONSENSE = (
    Contradiction,
    sqlite3.IntegrityError,
    msgspec.MsgspecError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


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


@contextmanager
def understood(database: Path) -> Iterator[None]:
    """Say of the database that it is damaged where what was read in a transaction makes no sense."""
    try:
        yield
    except NONSENSE as error:
        if isinstance(error, UnicodeError) or _is_amid_an_end(error):
            raise
        told = getattr(error, "orig", error)
        fault = corrupt(database, f"what it holds makes no sense ({type(told).__name__}: {told})")
        fault.hint += " If the doctor finds nothing, report what POPUG_TRACEBACK=1 shows."
        raise fault from error


def _is_amid_an_end(error: BaseException) -> bool:
    """Whether an error came up while a signal or Ctrl-C was on its way, as one does in SQLAlchemy's cleaning up."""
    behind: BaseException | None = error
    while isinstance(behind, Exception):
        behind = behind.__context__
    return behind is not None


def place_fault(error: BaseException, database: Path) -> PopugError | None:
    """The error with a sentence for a fault of the place; None for a fault of the program or of its input."""
    if isinstance(error, DBAPIError):
        error = error.orig if isinstance(error.orig, sqlite3.Error) else error
    if isinstance(error, OSError):
        return _os_fault(error, database)
    if isinstance(error, UnicodeDecodeError):  # by what SQLite quotes of a damaged schema
        return corrupt(database, "it holds bytes that are no text")
    if isinstance(error, sqlite3.Error) and any(sign in str(error) for sign in SIGNS_OF_DAMAGE):
        return corrupt(database, str(error))
    code = getattr(error, "sqlite_errorcode", None)
    return _sqlite_fault(code & _PRIMARY, error, database) if isinstance(code, int) else None


def _sqlite_fault(code: int, error: BaseException, database: Path) -> PopugError | None:
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return busy()
    if code == sqlite3.SQLITE_FULL:
        return disk_full(database)
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return corrupt(database, str(error))
    return _refused(code, error, database) if code in {*UNOPENED, sqlite3.SQLITE_IOERR} else None


def _refused(code: int, error: BaseException, database: Path) -> PopugError:
    """What SQLite does not tell apart, the disk does when it is asked for a little more."""
    refused = refusal(database.parent)
    if refused in NO_SPACE:
        return disk_full(database)
    if code == sqlite3.SQLITE_IOERR and is_at_limit(database, database.with_name(f"{database.name}-wal")):
        return disk_full(database)
    may_be_opened = code == sqlite3.SQLITE_CANTOPEN and os.access(database, os.R_OK | os.W_OK) and refused is None
    if code == sqlite3.SQLITE_IOERR or may_be_opened:
        return io_error(str(database), str(error))
    return Unavailable(
        "read_only",
        f"{database} cannot be opened for writing.",
        hint=f"Check who owns {database.parent} and that its file system is writable.",
    )


def _os_fault(error: OSError, database: Path) -> PopugError | None:
    named = isinstance(error.filename, str | os.PathLike)
    return of_system(error, os.fspath(error.filename) if named else str(database.parent))


def busy() -> Unavailable:
    """Somebody writes and does not end."""
    return Unavailable("database_busy", "Another process holds the database.", hint="Try again in a moment.")


def replaced(database: Path) -> Unavailable:
    """What was opened is not the company of that home any more."""
    sentence = f"{database} was replaced while this command had it open; nothing was written."
    return Unavailable("home_replaced", sentence, hint="Try again.")


def begun_already(fault: PopugError) -> Unavailable:
    """A fault that a command met when a part of it was done."""
    sentence = f"{fault.message} A part of what was asked for was done before."
    return Unavailable("in_doubt", sentence, hint=f"{fault.hint} What is written down is not done again.")


def corrupt(database: Path, why: str) -> IntegrityFault:
    """A file that is no sound SQLite database."""
    return IntegrityFault(
        "corrupt_database",
        f"{database} is damaged or no popug database: {why}.",
        hint="Run `popug doctor`; a good copy may lie under backups/.",
    )

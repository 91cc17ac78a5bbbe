"""Translate the errors of a PostgreSQL server into ``PopugError``; other errors, such as those of a bug, stay.

The codes are SQLSTATEs: https://www.postgresql.org/docs/15/errcodes-appendix.html
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from popug_cli.kernel.errors import IntegrityViolation, PopugError, Unavailable
from popug_cli.storage.errors import TransactionLost, busy

LOCK_NOT_AVAILABLE, QUERY_CANCELED, DISK_FULL, READ_ONLY = "55P03", "57014", "53100", "25006"
NO_PERMISSION, NO_DATABASE, NO_TABLE, NO_COLUMN = "42501", "3D000", "42P01", "42703"
CONFLICTS = ("40001", "40P01")  # with another transaction, or on a replica; the transaction can run again
CONNECTION_ENDED = ("57P01", "57P02", "57P03", "57P05", "25P03")  # shut down, crashed, starting up, idle too long
UNAVAILABLE_CLASSES = ("08", "28", "53", "57P")
DAMAGE_CLASS, INPUT_OUTPUT_ERROR = "XX0", "58030"


@contextmanager
def translate_errors(address: str) -> Iterator[None]:
    """Translate the errors of the server of a database into ``PopugError``."""
    try:
        yield
    except psycopg.Error as error:
        translated = server_error(error, address)
        if translated is None:
            raise
        raise translated from error


def environment_error(error: BaseException) -> PopugError | None:
    """Return the ``PopugError`` for an error of the server; None for any other exception."""
    return server_error(error, "the company's database") if isinstance(error, psycopg.Error) else None


def server_error(error: psycopg.Error, address: str) -> PopugError | None:
    """Return the ``PopugError`` for an error of the server or of the connection; None for a bug or an invalid input."""
    state, reason = error.sqlstate or "", first_line(error)
    is_lost = state in {*CONFLICTS, *CONNECTION_ENDED} or (not state and _has_lost_connection(error))
    if is_lost:
        return lost(address, reason)
    if state in {LOCK_NOT_AVAILABLE, QUERY_CANCELED}:
        return busy()
    if state in {NO_TABLE, NO_COLUMN} or state.startswith(DAMAGE_CLASS):
        return damaged(address, reason)
    if state == NO_DATABASE or state.startswith(UNAVAILABLE_CLASSES):
        return SPECIAL_ERRORS.get(state, unavailable)(address, reason)
    return SPECIAL_ERRORS[state](address, reason) if state in SPECIAL_ERRORS else None


def _has_lost_connection(error: psycopg.Error) -> bool:
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def lost(address: str, reason: str) -> TransactionLost:
    """Return the error for a transaction that was ended from outside and has changed nothing."""
    return TransactionLost(
        "database_unavailable",
        f"The connection to {address} ended, and nothing was changed: {reason}.",
        hint="Try again in a moment.",
    )


def unavailable(address: str, reason: str) -> Unavailable:
    """Return the error for a server that cannot be reached or refuses the connection."""
    return Unavailable(
        "database_unavailable",
        f"{_capitalized(address)} cannot be used: {reason}.",
        hint="Check that the server runs, and the host, role and password in the database's URL.",
    )


def damaged(address: str, reason: str) -> IntegrityViolation:
    """Return the error for a database that is not a sound popug database."""
    return IntegrityViolation(
        "corrupt_database",
        f"{_capitalized(address)} is damaged or is not a popug database: {reason}.",
        hint="Run `popug doctor`, or restore the database with PostgreSQL's own tools.",
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without the full stop at its end."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].removesuffix(".")


def _capitalized(address: str) -> str:
    return address[:1].upper() + address[1:]


def _disk_full(address: str, _: str) -> Unavailable:
    return Unavailable("disk_full", f"The disk of {address} is full.", hint="Free some space there, then try again.")


def _read_only(address: str, _: str) -> Unavailable:
    sentence = f"{_capitalized(address)} is read-only: it is a standby, or its settings say so."
    return Unavailable("read_only", sentence, hint="Name the primary, or all hosts, in the database's URL.")


def _io_error(address: str, reason: str) -> Unavailable:
    return Unavailable("io_error", f"{_capitalized(address)}: {reason}.", hint="Check its disk.")


def _no_permission(address: str, reason: str) -> Unavailable:
    hint = "Grant it as the chapter PostgreSQL of OPERATING.md says, or use another role."
    return Unavailable("database_unavailable", f"{_capitalized(address)} refused: {reason}.", hint=hint)


SPECIAL_ERRORS = {
    DISK_FULL: _disk_full,
    READ_ONLY: _read_only,
    INPUT_OUTPUT_ERROR: _io_error,
    NO_PERMISSION: _no_permission,
}

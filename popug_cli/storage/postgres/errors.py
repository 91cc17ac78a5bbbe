"""Translate the errors of a PostgreSQL server into ``PopugError``; other errors, such as those of a bug, stay.

The codes are SQLSTATEs: https://www.postgresql.org/docs/15/errcodes-appendix.html
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from popug_cli.kernel.errors import IntegrityViolation, InvalidInput, PopugError, Unavailable
from popug_cli.storage.errors import TransactionLost, busy
from popug_cli.storage.postgres.url import invalid_url

LOCK_NOT_AVAILABLE, QUERY_CANCELED, DISK_FULL, READ_ONLY = "55P03", "57014", "53100", "25006"
NO_PERMISSION, NO_DATABASE, NO_TABLE, NO_COLUMN = "42501", "3D000", "42P01", "42703"
CONFLICTS = ("40001", "40P01")  # with another transaction, or on a replica; the transaction can run again
CONNECTION_ENDED = ("57P01", "57P02", "57P03", "57P05", "25P03")  # shut down, crashed, starting up, idle too long
UNAVAILABLE_CLASSES = ("08", "28", "53", "57P")
NO_SCHEMA, EXISTS_ALREADY = "3F000", ("42P06", "42P07", "42710", "42723")
NO_PREPARED_STATEMENT, PREPARED_ALREADY = "26000", "42P05"
DAMAGE_CLASS, INPUT_OUTPUT_ERROR = "XX0", "58030"

READ_ONLY_SESSION = ("session is read-only", "server is in hot standby mode")
ANSWERS_OF_OTHER_PROGRAMS = ("received invalid response to", "expected authentication request from server", "protocol")
NO_ANSWER = "no PostgreSQL server answered in time"
NOT_POSTGRES = "the program that listens there is not a PostgreSQL server"
_CONNECTION_PREFIX = re.compile(
    r"(?:- host: .*?: )?(?:connection (?:is bad|failed): )(?:connection to server .*? failed: )?(?:FATAL:  )?"
)
_REFUSED_VALUE = re.compile("invalid (?!response)|definition of service|could not (?:match|parse)|missing ")


@contextmanager
def translate_errors(address: str) -> Iterator[None]:
    """Translate the errors of the server of a database into ``PopugError``."""
    try:
        yield
    except psycopg.Error as error:
        translated = _refused_nul(error) or server_error(error, address)
        if translated is None:
            raise
        raise translated from error


def _refused_nul(error: psycopg.Error) -> PopugError | None:
    """Return the error for a text with NUL, which psycopg refuses to send, since PostgreSQL has no such texts."""
    if not isinstance(error, psycopg.DataError) or error.sqlstate or "NUL (0x00)" not in str(error):
        return None
    return InvalidInput(
        "invalid_text",
        "A text contains the character NUL, which is not valid here. Nothing was changed.",
        hint="Remove that character.",
    )


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
    if state in EXISTS_ALREADY:
        return foreign(address)
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


def connection_error(address: str, error: psycopg.Error) -> PopugError:
    """Return the error for a connection that was not opened: ``invalid_url``, ``read_only``, else as ``unavailable``.

    libpq gives no SQLSTATE for it, but its text (``PQerrorMessage``).
    """
    reasons = [*dict.fromkeys(_reason(line) for line in _lines_of_servers(error))]
    if isinstance(error, psycopg.ProgrammingError) or _REFUSED_VALUE.match(reasons[0]):
        return invalid_url(reasons[0])
    if all(reason.endswith(READ_ONLY_SESSION) for reason in reasons):
        return _read_only(address, reasons[0])
    return unavailable(address, "; ".join(reasons))


def _lines_of_servers(error: psycopg.Error) -> list[str]:
    """Return a line for each server that was tried; psycopg lists them if there are several."""
    return [line for line in str(error).splitlines() if line.startswith("- host:")] or [first_line(error)]


def _reason(line: str) -> str:
    reason = _CONNECTION_PREFIX.sub("", line).removesuffix(".")
    if reason == "connection timeout expired":
        return NO_ANSWER
    return NOT_POSTGRES if any(text in reason for text in ANSWERS_OF_OTHER_PROGRAMS) else reason


def unavailable(address: str, reason: str) -> Unavailable:
    """Return the error for a server that cannot be reached or refuses the connection."""
    return Unavailable(
        "database_unavailable",
        f"{capitalized(address)} cannot be used: {reason}.",
        hint="Check that the server runs, and the host, role and password in the database's URL.",
    )


def damaged(address: str, reason: str) -> IntegrityViolation:
    """Return the error for a database that is not a sound popug database."""
    return IntegrityViolation(
        "corrupt_database",
        f"{capitalized(address)} is damaged or is not a popug database: {reason}.",
        hint="Run `popug doctor`, or restore the database with PostgreSQL's own tools.",
    )


def foreign(address: str) -> IntegrityViolation:
    """Return the error for a database that another program uses."""
    return IntegrityViolation(
        "corrupt_database",
        f"{capitalized(address)} is not a popug database: it contains tables of another program. Nothing was changed.",
        hint="Name an empty database, which `createdb NAME` makes.",
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without the full stop at its end."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].removesuffix(".")


def capitalized(address: str) -> str:
    """Return an address for the beginning of a sentence."""
    return address[:1].upper() + address[1:]


def _disk_full(address: str, _: str) -> Unavailable:
    return Unavailable("disk_full", f"The disk of {address} is full.", hint="Free some space there, then try again.")


def _read_only(address: str, _: str) -> Unavailable:
    sentence = f"{capitalized(address)} is read-only: it is a standby, or a setting says so. Nothing was changed."
    return Unavailable("read_only", sentence, hint="Name the primary, or all hosts, in the database's URL.")


def _io_error(address: str, reason: str) -> Unavailable:
    return Unavailable("io_error", f"{capitalized(address)}: {reason}.", hint="Check its disk.")


def _no_permission(address: str, reason: str) -> Unavailable:
    hint = "Grant it as the chapter PostgreSQL of OPERATING.md says, or use another role."
    return Unavailable("database_unavailable", f"{capitalized(address)} refused: {reason}.", hint=hint)


def no_schema(address: str, _: str = "") -> Unavailable:
    """Return the error for a role that may use no schema of the database."""
    sentence = f"{capitalized(address)} has no schema that this role may use."
    hint = "Grant USAGE on the schema of popug's tables, or name it in the role's search_path."
    return Unavailable("database_unavailable", sentence, hint=hint)


def shared_session(address: str, _: str = "") -> Unavailable:
    """Return the error for a pooler that gives a session to several clients in turn."""
    sentence = (
        f"{capitalized(address)} cannot be used through this pooler: it lets several clients share a session, as"
        " PgBouncer does with pool_mode = transaction. Nothing was changed."
    )
    hint = "Set pool_mode = session for this database in pgbouncer.ini, or name PostgreSQL's own port in the URL."
    return Unavailable("database_unavailable", sentence, hint=hint)


SPECIAL_ERRORS = {
    NO_PREPARED_STATEMENT: shared_session,
    PREPARED_ALREADY: shared_session,
    NO_SCHEMA: no_schema,
    DISK_FULL: _disk_full,
    READ_ONLY: _read_only,
    INPUT_OUTPUT_ERROR: _io_error,
    NO_PERMISSION: _no_permission,
}

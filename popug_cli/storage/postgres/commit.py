"""Commit a transaction, and decide whether it is committed if the server's answer is lost or is not certain.

A commit is not certain if the wait for the synchronous standby was cancelled: it is committed on this server, but a
standby that is promoted may lack it. The query that the transaction has named decides, once the write lock is held;
what it finds is acknowledged only after a later commit has reached the standby.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg

from popug_cli.kernel.disk_errors import in_doubt
from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.storage.postgres import errors

if TYPE_CHECKING:
    from popug_cli.storage.postgres.driver import Driver, PostgresDatabase

DECISION_SECONDS = 30.0
PAUSE_SECONDS = 0.1
LOCK = "SELECT id FROM bus_head WHERE id = 1 FOR UPDATE"
PROVE_BY_WRITING = "UPDATE bus_head SET proofs_count = proofs_count + 1 WHERE id = 1"
WARNING_CLASS = "01000"

CommitCheck = tuple[str, Sequence[Any]]


def commit(database: "PostgresDatabase", driver: "Driver", check: CommitCheck | None, *, has_changed: bool) -> None:
    """Commit the open transaction of ``driver``.

    ``check`` is a query that returns a row once it is committed. Raise ``TransactionLost`` if it is not committed, and
    ``in_doubt`` if that cannot be decided.
    """
    try:
        is_certain = try_commit(driver)
    except psycopg.OperationalError as error:
        if not driver.broken:
            raise
        database.note_lost_connection()
        reason = errors.first_line(error)
        if not has_changed or not _is_committed(database, check, reason):
            raise errors.lost(database.address, reason) from error
        return
    if not is_certain and has_changed:
        _is_committed(database, check, "the wait for the synchronous standby was cancelled")


def try_commit(driver: "Driver") -> bool:
    """Commit; return False if the server did not wait until its synchronous standby had the commit."""
    warnings: list[psycopg.errors.Diagnostic] = []
    driver.add_notice_handler(warnings.append)
    try:
        cursor = driver.execute("COMMIT")
    finally:
        driver.remove_notice_handler(warnings.append)
    assert cursor.statusmessage == "COMMIT", "a statement of the transaction failed, and its error was ignored"
    return not any(warning.sqlstate == WARNING_CLASS for warning in warnings)


def _is_committed(database: "PostgresDatabase", check: CommitCheck | None, reason: str) -> bool:
    """Return whether the transaction of ``check`` is committed; raise ``in_doubt`` if that is not known in time."""
    lost: PopugError = errors.lost(database.address, reason)
    lost.message = f"The answer to a commit was lost: {reason}."
    deadline = time.monotonic() + DECISION_SECONDS
    while check is not None and time.monotonic() < deadline:
        with suppress(psycopg.Error, Unavailable):
            driver = database.connect()
            try:
                is_found = _look(driver, check)
                if is_found is not None:
                    return is_found
            finally:
                driver.close()
        time.sleep(PAUSE_SECONDS)
    raise in_doubt(lost)


def _look(driver: "Driver", check: CommitCheck) -> bool | None:
    """Look for the commit under the write lock. Return None if a commit of this connection is not certain either."""
    statement, values = check
    driver.execute("BEGIN")
    driver.execute(LOCK)
    if driver.execute(statement.encode(), values or None).fetchone() is None:
        driver.execute("ROLLBACK")
        return False
    driver.execute(PROVE_BY_WRITING)
    return True if try_commit(driver) else None

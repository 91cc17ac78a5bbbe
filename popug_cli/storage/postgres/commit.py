"""Commit a transaction, and decide whether it is committed if the server's answer is lost or is not certain.

A commit is not certain if the wait for the synchronous standby was cancelled: it is committed on this server, but a
standby that is promoted may lack it. The query that the transaction has named decides, once the write lock is held;
what it finds is acknowledged only after a later commit has reached the standby.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg

from popug_cli.kernel.disk_errors import in_doubt
from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.storage.postgres import errors, session

if TYPE_CHECKING:
    from popug_cli.storage.postgres.driver import PostgresDatabase
    from popug_cli.storage.postgres.session import Driver

COMMIT_SECONDS = 20.0
DECISION_SECONDS = 30.0  # from the beginning of the commit
PAUSE_SECONDS = 0.1
CANCELLED_WAIT = "the wait for the synchronous standby was cancelled"
WARNING_CLASS = "01000"
INTERRUPTED_COMMIT = "the database may still complete the command; look before you repeat it."

CommitCheck = tuple[str, Sequence[Any]]


def commit(database: "PostgresDatabase", driver: "Driver", check: CommitCheck | None, *, has_changed: bool) -> None:
    """Commit the open write transaction of ``driver``.

    ``check`` is a query that returns a row once it is committed. Raise ``TransactionLost`` if it is not committed, and
    ``in_doubt`` if that is not decided after ``DECISION_SECONDS``. A Ctrl-C during the commit is raised again with
    ``INTERRUPTED_COMMIT``.
    """
    deadline = time.monotonic() + DECISION_SECONDS
    try:
        reason = _reason_for_doubt(database, driver)
        if reason is None:
            return
        if not has_changed or not _is_committed(database, check, reason, deadline):
            raise errors.lost(database.address, reason)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(INTERRUPTED_COMMIT if has_changed else "") from interrupt


def _reason_for_doubt(database: "PostgresDatabase", driver: "Driver") -> str | None:
    """Commit; return None if that is certain, else why it is not. Raise ``psycopg.Error`` if nothing is committed."""
    try:
        return None if try_commit(driver, COMMIT_SECONDS) else CANCELLED_WAIT
    except psycopg.OperationalError as error:
        if driver.closed:
            database.note_lost_connection()
        elif error.sqlstate != errors.QUERY_CANCELED:
            raise
        return errors.first_line(error)


def try_commit(driver: "Driver", timeout_seconds: float, while_waiting: Callable[[], None] = lambda: None) -> bool:
    """Commit; return False if the server did not wait until its synchronous standby had the commit.

    A server whose standby is away waits without end. After ``timeout_seconds`` the connection is closed, not the
    commit: the server completes it when the standby returns, and keeps the write lock until then.
    """
    warnings: list[psycopg.errors.Diagnostic] = []
    driver.add_notice_handler(warnings.append)
    try:
        (result,) = session.ask(driver, b"COMMIT", while_waiting, timeout_seconds)
    finally:
        driver.remove_notice_handler(warnings.append)
    assert result.command_status == b"COMMIT", "a statement of the transaction failed, and its error was ignored"
    return not any(warning.sqlstate == WARNING_CLASS for warning in warnings)


def _is_committed(database: "PostgresDatabase", check: CommitCheck | None, reason: str, deadline: float) -> bool:
    """Return whether the transaction of ``check`` is committed; raise ``in_doubt`` if that is not known in time."""
    database = database.ignoring_stop_requests()
    while check is not None and time.monotonic() < deadline:
        with suppress(psycopg.Error, Unavailable):
            driver = database.connect()
            try:
                is_found = _look(driver, check, deadline)
                if is_found is not None:
                    return is_found
            finally:
                driver.close()
        time.sleep(PAUSE_SECONDS)
    lost: PopugError = errors.lost(database.address, reason)
    lost.message = f"The answer to a commit was lost: {reason}."
    raise in_doubt(lost)


def _look(driver: "Driver", check: CommitCheck, deadline: float) -> bool | None:
    """Look for the commit under the write lock. Return None if a commit of this connection is not certain either.

    The lock is free once the server has ended the transaction. A commit of this connection, which writes too, shows
    that the standby has what was found.
    """
    statement, values = check
    session.ask(driver, session.BEGIN_AND_LOCK, lambda: None, _seconds_until(deadline))
    if driver.execute(statement.encode(), values or None).fetchone() is None:
        driver.execute("ROLLBACK")
        return False
    return True if try_commit(driver, _seconds_until(deadline)) else None


def _seconds_until(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.0)

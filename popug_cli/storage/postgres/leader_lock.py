"""The leader's lock on PostgreSQL: a session-level advisory lock, on a connection of its own.

https://www.postgresql.org/docs/15/explicit-locking.html#ADVISORY-LOCKS

A process that is stopped, or whose machine is gone, sends nothing any more. The server ends its session after
``idle_session_timeout``, and with it the lock; a killed process loses it at once, since the kernel closes the
connection. A leader that wakes up finds its session ended.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from popug_cli.storage.postgres import errors

LOCK_KEY = 0x706F707567  # any number that no other program uses in the databases of services
CHANNEL = "popug_log"
SETTINGS = "SET idle_session_timeout = '10s'; SET statement_timeout = '10s'"


class PostgresLeaderLock:
    """The lock of the database that libpq's ``parameters`` name; ``address`` names it in messages."""

    def __init__(self, parameters: Mapping[str, Any], address: str) -> None:
        self._parameters = parameters
        self._address = address
        self._connection: psycopg.Connection[Any] | None = None

    def try_acquire(self) -> bool:
        """Try to acquire the lock, and then listen for ``notify``."""
        with self._connected() as connection:
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK_KEY]).fetchone()
            if row is None or not row[0]:
                return False
            connection.execute(f"LISTEN {CHANNEL}")
            return True

    def hold(self, seconds: float) -> bool:
        """Wait for a notification, then send a statement, so that the session is not idle for longer."""
        with self._connected() as connection:
            is_notified = any(True for _ in connection.notifies(timeout=seconds, stop_after=1))
            connection.execute("SELECT 1")
            return is_notified

    def notify(self) -> None:
        """Notify outside any transaction of a command: a NOTIFY in one would make all commits wait for each other."""
        with self._connected() as connection:
            connection.execute(f"NOTIFY {CHANNEL}")

    def release(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        """Yield the connection, opened if there is none; after an error there is none."""
        try:
            with errors.translate_errors(self._address):
                if self._connection is None:
                    self._connection = self._connect()
                yield self._connection
        except BaseException:
            self.release()
            raise

    def _connect(self) -> psycopg.Connection[Any]:
        try:
            connection: psycopg.Connection[Any] = psycopg.connect(**self._parameters, autocommit=True)
        except psycopg.Error as error:
            raise errors.connection_error(self._address, error) from error
        connection.execute(SETTINGS)
        return connection

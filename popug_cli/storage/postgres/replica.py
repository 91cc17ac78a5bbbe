"""A replica of the company's database, for queries."""

import time
from collections.abc import Callable

from popug_cli.kernel.errors import InvalidInput, Unavailable
from popug_cli.storage.postgres.driver import PostgresDatabase
from popug_cli.storage.postgres.session import Driver
from popug_cli.storage.postgres.url import STANDBY

RETRY_AFTER_SECONDS = 5.0


class ReplicaDatabase(PostgresDatabase):
    """A streaming standby, or any other copy, of the database of the company ``home_id``.

    If it cannot be reached, ``connection`` raises ``database_unavailable`` at once for ``RETRY_AFTER_SECONDS``, so that
    few queries wait for it.
    """

    def __init__(self, url: str, home_id: str, *, threads: int, while_waiting: Callable[[], None]) -> None:
        super().__init__(url, threads=threads, while_waiting=while_waiting, target=STANDBY)
        self._home_id = home_id
        self._unreachable: Unavailable | None = None
        self._retry_at = 0.0

    def connect(self) -> Driver:
        """Open a connection; raise ``database_unavailable``, or ``invalid_url`` for another company's database."""
        if self._unreachable is not None and time.monotonic() < self._retry_at:
            raise self._unreachable
        try:
            driver = super().connect()
        except Unavailable as error:
            self._unreachable, self._retry_at = error, time.monotonic() + RETRY_AFTER_SECONDS
            raise
        self._unreachable = None
        row = driver.execute("SELECT home_id FROM storage_home").fetchone()
        if row is None or row[0] != self._home_id:
            driver.close()
            raise InvalidInput(
                "invalid_url",
                f"The URL of the replica is not valid: {self.address} does not hold this company.",
                hint="Name a standby of the company's database in POPUG_DATABASE_REPLICA or database.replica_url.",
            )
        return driver

    def note_lost_connection(self) -> None:
        """Close the idle connections, which end with the lost one."""
        self._close_idle()

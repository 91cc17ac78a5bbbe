"""Open sessions of PostgreSQL, and send statements whose answer may take long: for the write lock, or for a standby."""

import select
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq
from psycopg.adapt import Dumper, Loader
from psycopg.errors import error_from_result

from popug_cli.storage.port import Row
from popug_cli.storage.postgres import errors

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

Driver = psycopg.Connection[Row]

MIN_SERVER_VERSION = 150_000
POLL_MILLISECONDS = 100
# A session that is idle in a transaction, or does not read the answer, ends, so that a stopped process does not keep
# the write lock: https://www.postgresql.org/docs/15/runtime-config-client.html#GUC-IDLE-IN-TRANSACTION-SESSION-TIMEOUT
# A pooler that gives a session to several clients in turn also gives them each other's settings: a new session then has
# the mark of an earlier one.
SESSION_SETTINGS = (
    "SELECT current_setting('popug.session', true); SET popug.session = 'in use';"
    " SET idle_in_transaction_session_timeout = '10s'; SET tcp_user_timeout = '10s'; SET statement_timeout = '60s';"
    " SET lock_timeout = '30s'; SET synchronous_commit = on; SET jit = off"
)

# The write lock is a row. Its new version counts the write transactions, and a replica shows how many it has.
BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED;"
LOCK = (
    b" UPDATE bus_head SET changes_count = changes_count + 1 WHERE id = 1 RETURNING changes_count;"
    b" SELECT max(sequence) FROM bus_log; SELECT version_num FROM alembic_version"
)
BEGIN_AND_LOCK = BEGIN + LOCK
BEGIN_READ_ONLY = (
    b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT changes_count FROM bus_head;"
    b" SELECT max(sequence) FROM bus_log"
)


class WholeNumberLoader(Loader):
    """Load ``numeric`` as int: it is the type of ``sum(bigint)``, and all numbers of popug are whole."""

    def load(self, data: Any) -> int:
        """Return the number."""
        return int(bytes(data))


class FlagDumper(Dumper):
    """Send a bool as 0 or 1: flags are integers in the tables."""

    oid = psycopg.adapters.types["int2"].oid

    def dump(self, obj: bool) -> bytes:
        """Return the digit."""
        return b"1" if obj else b"0"


def open_session(parameters: dict[str, Any], address: str) -> Driver:
    """Return a new connection with popug's settings.

    Raise ``psycopg.Error``, or ``database_unavailable`` for a server that is too old or in another encoding, and for a
    pooler that shares sessions.
    """
    driver = psycopg.connect(**parameters, autocommit=True)
    try:
        if driver.info.server_version < MIN_SERVER_VERSION:
            version = driver.info.server_version // 10_000
            raise errors.unavailable(address, f"its version is {version}, popug needs 15 or later")
        if (encoding := driver.info.parameter_status("server_encoding")) != "UTF8":
            raise errors.unavailable(address, f"its encoding is {encoding}, popug needs UTF8")
        driver.adapters.register_loader("numeric", WholeNumberLoader)
        driver.adapters.register_dumper(bool, FlagDumper)
        if driver.execute(SESSION_SETTINGS).fetchone() == ("in use",):
            raise errors.shared_session(address)
    except BaseException:
        driver.close()
        raise
    return driver


def ask(
    driver: Driver, statements: bytes, while_waiting: Callable[[], None], timeout_seconds: float = float("inf")
) -> "list[PGresult]":
    """Send statements without values and return the result of each.

    ``while_waiting`` is called several times a second; signals are handled during the wait. An exception during the
    wait closes the connection. Raise ``psycopg.Error``; ``OperationalError`` if there is no answer in time.
    """
    connection, deadline = driver.pgconn, time.monotonic() + timeout_seconds
    results = []
    try:
        connection.send_query(statements)
        poll = select.poll()
        poll.register(connection.socket, select.POLLIN)
        while True:
            while connection.is_busy():
                if poll.poll(POLL_MILLISECONDS):
                    connection.consume_input()
                else:
                    while_waiting()
                if time.monotonic() > deadline:
                    raise psycopg.OperationalError(f"the server did not answer within {timeout_seconds:.0f} seconds")
            if (result := connection.get_result()) is None:
                break
            results.append(result)
    except BaseException:
        driver.close()
        raise
    for result in results:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise error_from_result(result)
    return results

"""The servers that a URL names, each asked by itself: which one is the primary, and how far the standbys are behind."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import psycopg

from popug_cli.storage.postgres.url import DEFAULT_PORT, connection_parameters

CONNECT_SECONDS = 3
REFUSED = "FATAL:"  # begins the server's own reason; psycopg has no SQLSTATE for a session that was not opened
SELECT_POSITION = (
    "SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()"
    " ELSE pg_current_wal_lsn() END - '0/0'::pg_lsn"
)


class HostState(NamedTuple):
    """A server: its address (``HOST:PORT``), whether it is a standby, and where it is in the write-ahead log, in bytes.

    A standby is at what it has replayed. Without a session, ``is_standby`` and ``wal_bytes`` are None; ``answers`` says
    whether the server has refused it, as for a database that does not exist, or has not answered.
    """

    address: str
    answers: bool
    is_standby: bool | None = None
    wal_bytes: int | None = None


def states_of_hosts(url: str) -> list[HostState]:
    """Return the state of each server that a URL names; raise ``invalid_url``."""
    return [_state_of(parameters) for parameters in _each_host(connection_parameters(url))]


def _each_host(parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    hosts = str(parameters.get("host") or parameters.get("hostaddr") or "").split(",")
    ports = str(parameters.get("port") or DEFAULT_PORT).split(",")
    name = "host" if parameters.get("host") else "hostaddr"
    each = [(host, ports[min(index, len(ports) - 1)]) for index, host in enumerate(hosts)]
    common = {**parameters, "target_session_attrs": "any", "connect_timeout": str(CONNECT_SECONDS)}
    return [{**common, name: host, "port": port} for host, port in each]


def _state_of(parameters: dict[str, Any]) -> HostState:
    address = f"{parameters.get('host') or parameters.get('hostaddr') or 'this machine'}:{parameters['port']}"
    try:
        with psycopg.connect(**parameters, autocommit=True) as connection:
            row = connection.execute(SELECT_POSITION).fetchone()
    except psycopg.Error as error:
        return HostState(address, answers=REFUSED in str(error))
    assert row is not None, "the query has one row"
    return HostState(address, True, row[0], None if row[1] is None else int(row[1]))

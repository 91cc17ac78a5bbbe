"""The URL of a PostgreSQL database. What is shown of it never has a password."""

from functools import lru_cache
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from popug_cli.kernel.errors import InvalidInput

SCHEMES = ("postgresql://", "postgres://")
DEFAULT_PORT = "5432"
PRIMARY, STANDBY = "read-write", "prefer-standby"  # which of several hosts to take, by libpq's target_session_attrs
DEFAULTS = {
    "connect_timeout": "5",
    "application_name": "popug",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


@lru_cache
def connection_parameters(url: str, target: str = PRIMARY) -> dict[str, Any]:
    """Return libpq's parameters: those of the URL, and ``target`` and ``DEFAULTS`` for what it leaves open.

    Raise ``invalid_url``.
    """
    if not url.startswith(SCHEMES):
        raise _invalid("it does not begin with postgresql://")
    try:
        given = conninfo_to_dict(url)
    except (psycopg.Error, UnicodeError) as error:
        raise _invalid("its parts are not valid") from error  # libpq's message may quote the password
    if not given.get("dbname"):
        raise _invalid("it names no database")
    return {**DEFAULTS, "target_session_attrs": target, **given, "client_encoding": "UTF8"}


@lru_cache
def address_of(url: str) -> str:
    """Return a text that names the database in messages: its name, host and port."""
    given = connection_parameters(url)
    hosts = str(given.get("host") or given.get("hostaddr") or "this machine").split(",")
    ports = str(given.get("port") or DEFAULT_PORT).split(",")
    servers = [f"{host}:{ports[min(index, len(ports) - 1)]}" for index, host in enumerate(hosts)]
    return f"the PostgreSQL database {given['dbname']} on {', '.join(servers)}"


def _invalid(reason: str) -> InvalidInput:
    return InvalidInput(
        "invalid_url",
        f"The database's URL is not valid: {reason}.",
        hint="Write it as postgresql://USER@HOST:PORT/DATABASE, in POPUG_DATABASE (that of a replica in"
        " POPUG_DATABASE_REPLICA) or in config.toml.",
    )

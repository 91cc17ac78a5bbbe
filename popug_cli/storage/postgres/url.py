"""The URL of a PostgreSQL database. What is shown of it never has a password."""

import re
import unicodedata
from functools import lru_cache
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.text import has_password

SCHEMES = ("postgresql://", "postgres://")
DEFAULT_PORT, MAX_PORT = "5432", 65_535
PRIMARY, STANDBY = "read-write", "prefer-standby"  # which of several hosts to take, by libpq's target_session_attrs
DEFAULTS = {
    "connect_timeout": "5",
    "application_name": "popug",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
HINT = "Write it as postgresql://USER@HOST:PORT/DATABASE, in POPUG_DATABASE or in config.toml."
SERVER_HINT = "Only `popug cluster` and `popug serve --module` take the URL of a whole server."
ENCODING_HINT = "In a name or a password, write @ as %40, / as %2F, : as %3A and % as %25."
CONTROL_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_SCHEME = re.compile(r"[a-z][a-z0-9+]{0,20}://")
_REFUSED_PARAMETER = re.compile(r'invalid URI query parameter: "([A-Za-z_]{1,40})"')


@lru_cache
def connection_parameters(url: str, target: str = PRIMARY) -> dict[str, Any]:
    """Return libpq's parameters: those of the URL, and ``target`` and ``DEFAULTS`` for what it leaves open.

    Raise ``invalid_url``.
    """
    url = url.strip()
    if not url.startswith(SCHEMES):
        scheme = _SCHEME.match(url)
        begins = f"it begins with {scheme[0]}, not" if scheme else "it does not begin"
        raise invalid_url(f"{begins} with postgresql://")
    try:
        given = conninfo_to_dict(url)
    except (psycopg.Error, UnicodeError) as error:
        raise invalid_url(_reason(error, url)) from None  # the error's text may quote the password
    if not given.get("dbname"):
        raise invalid_url("it names no database", SERVER_HINT)
    servers = [str(given.get(name) or "") for name in ("host", "hostaddr", "port", "dbname", "user")]
    if _has_stray_at_sign(url) or "@" in servers[0][1:]:
        raise invalid_url("it has an @ or a slash that belongs to a password and is not encoded", ENCODING_HINT)
    for port in filter(None, servers[2].split(",")):
        if not (port.isascii() and port.isdecimal() and 0 < int(port) <= MAX_PORT):
            raise invalid_url(f"it has the port {port}, not one from 1 to {MAX_PORT}")
    if any(unicodedata.category(character) in CONTROL_CATEGORIES for character in "".join(servers)):
        raise invalid_url("it contains control characters")
    return {**DEFAULTS, "target_session_attrs": target, **given, "client_encoding": "UTF8"}


@lru_cache
def address_of(url: str) -> str:
    """Return a text that names the database in messages: its name, host and port."""
    given = connection_parameters(url)
    hosts = str(given.get("host") or given.get("hostaddr") or "this machine").split(",")
    ports = str(given.get("port") or DEFAULT_PORT).split(",")
    servers = [f"{host}:{ports[min(index, len(ports) - 1)]}" for index, host in enumerate(hosts)]
    return f"the PostgreSQL database {given['dbname']} on {', '.join(servers)}"


def _has_stray_at_sign(url: str) -> bool:
    """Return whether a part of a password would be taken for a host or a database."""
    before, at_sign, after = url.partition("://")[2].partition("?")[0].partition("@")
    return bool(at_sign) and ("/" in before or "@" in after)


def _reason(error: Exception, url: str) -> str:
    """Return libpq's reason for refusing a URL, without any value that may be a part of a password."""
    parameter = _REFUSED_PARAMETER.search(str(error))
    if parameter and not has_password(url):
        return f"it has the unknown parameter {parameter[1]}"
    return "its parts are not valid"


def invalid_url(reason: str, hint: str = "") -> InvalidInput:
    """Return the error for a URL of a database that cannot be used; ``reason`` must not contain a password."""
    return InvalidInput("invalid_url", f"The database's URL is not valid: {reason}.", hint=f"{HINT} {hint}".strip())

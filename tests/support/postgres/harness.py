"""A PostgreSQL server for a harness, with a role that may create databases."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.postgres.server import PostgresServer

ROLE = "harness"


def role_url(server: PostgresServer) -> str:
    """Return the URL of a role that may create databases on a server."""
    server.create_role(ROLE, "LOGIN CREATEDB")
    return server.url("postgres", ROLE)


@contextmanager
def harness_server() -> Iterator[str]:
    """Start a server, and yield the URL of a role that may create databases."""
    with PostgresServer.create() as server:
        yield role_url(server)

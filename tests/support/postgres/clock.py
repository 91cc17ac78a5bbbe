"""A clock of a database's sessions that a test can shift, as popug refuses to write if its clock and theirs differ.

``clock_timestamp()`` is a function of PostgreSQL that a schema in front of ``pg_catalog`` replaces. The environment of
a client chooses the schema and the shift (https://www.postgresql.org/docs/15/libpq-envars.html).
"""

from datetime import timedelta

from tests.support.postgres.server import OWNER, PostgresServer

SCHEMA = "shifted_clock"
STATEMENTS = (
    f"CREATE SCHEMA {SCHEMA}",
    f"GRANT USAGE ON SCHEMA {SCHEMA} TO {OWNER}",
    f"""
    CREATE FUNCTION {SCHEMA}.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
        SELECT pg_catalog.clock_timestamp() + make_interval(secs => current_setting('{SCHEMA}.seconds')::float8)
    $$
    """,
)


def install(server: PostgresServer, database: str) -> None:
    """Let sessions of a database, and of its copies, shift their clock."""
    with server.session(database) as session:
        for statement in STATEMENTS:
            session.execute(statement)


def environment(shift: timedelta) -> dict[str, str]:
    """Return the environment of a client whose sessions have a clock that is ahead of the machine's."""
    settings = {"search_path": f"public,{SCHEMA},pg_catalog", f"{SCHEMA}.seconds": str(shift.total_seconds())}
    return {"PGOPTIONS": " ".join(f"-c {name}={value}" for name, value in settings.items())}

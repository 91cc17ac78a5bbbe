"""The schema of a PostgreSQL company: create it, and refuse one that is older, newer or not popug's.

The first migration creates everything, because no company on PostgreSQL is older.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from popug_cli.kernel.errors import Conflict, IntegrityViolation, InvalidInput, NotFound
from popug_cli.storage.migrate import NEWEST
from popug_cli.storage.port import Connection
from popug_cli.storage.postgres import errors
from popug_cli.storage.postgres.url import address_of, connection_parameters

if TYPE_CHECKING:
    from popug_cli.storage.postgres.session import Driver

SELECT_VERSION = "SELECT version_num FROM alembic_version"
SELECT_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
MIGRATIONS = Path(__file__).parent
GRANTS = (
    "GRANT USAGE ON SCHEMA {schema} TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
    "GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
    "REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM {role}",
    "REVOKE UPDATE, DELETE ON bus_log, bus_links, billing_entries, billing_days FROM {role}",
)


def is_created(driver: "Driver", address: str) -> bool:
    """Return whether the database has a company's tables; False if it is empty.

    Raise ``newer_database``, ``older_database`` or ``corrupt_database``.
    """
    version = _version(driver, address)
    if version is not None:
        _require_newest(address, version)
    return version is not None


def has_company(connection: Connection) -> bool:
    """Return whether a company was founded in the database or copied into it."""
    return connection.scalar("SELECT 1 FROM storage_home") is not None


def migrate(url: str, role: str | None = None) -> tuple[str | None, str]:
    """Apply the missing migrations in one transaction, and return the version before and after.

    ``role`` is a role that gets the rights that popug needs; it owns no table. Raise ``newer_database``,
    ``older_database``, ``corrupt_database``, ``role_not_found``, ``usage`` or ``database_unavailable``.
    """
    with errors.translate_errors(address_of(url)), _session(url) as driver, driver.transaction():
        version = apply_missing(driver, address_of(url))
        if role is not None:
            _grant(driver, role)
    return version, NEWEST


def apply_missing(driver: "Driver", address: str) -> str | None:
    """Apply the missing migrations in the open transaction, and return the version before; raise as ``migrate`` does.

    It locks out other migrations until the end of the transaction.
    """
    driver.execute("SELECT pg_advisory_xact_lock(hashtext('popug migrations'))")
    version = _version(driver, address)
    if version is not None and version > NEWEST:
        raise newer(address, version)
    if version != NEWEST:
        _apply(driver, version, address)
    return version


def newer(address: str, version: str) -> IntegrityViolation:
    """Return the error for a database that a newer popug has migrated."""
    return IntegrityViolation(
        "newer_database",
        f"{errors.capitalized(address)} was written by a newer popug (its version is {version}, this program knows"
        f" {NEWEST}).",
        hint="Install the newer popug, then start this process again; nothing was changed.",
        details={"found": version, "known": NEWEST},
    )


def _require_newest(address: str, version: str) -> None:
    if version > NEWEST:
        raise newer(address, version)
    if version < NEWEST:
        raise Conflict(
            "older_database",
            f"{errors.capitalized(address)} was written by an older popug (its version is {version}, this program needs"
            f" {NEWEST}).",
            hint="Run `popug database migrate` with the URL of the role that owns the tables.",
            details={"found": version, "needed": NEWEST},
        )


def _session(url: str) -> "Driver":
    from popug_cli.storage.postgres.session import open_session

    try:
        return open_session(connection_parameters(url), address_of(url))
    except psycopg.Error as error:
        raise errors.connection_error(address_of(url), error) from error


def _version(driver: "Driver", address: str) -> str | None:
    """Return the version of a company's database, or None for an empty one; raise ``corrupt_database``."""
    tables = {name for (name,) in driver.execute(SELECT_TABLES)}
    if not tables:
        if driver.execute("SELECT current_schema()").fetchone() == (None,):
            raise errors.no_schema(address)
        return None
    if "alembic_version" not in tables or "storage_home" not in tables:
        raise errors.foreign(address)
    row = driver.execute(SELECT_VERSION).fetchone()
    if row is None or not str(row[0]).isdecimal():
        raise errors.damaged(address, "its version is not recorded")
    return str(row[0])


def _apply(driver: "Driver", version: str | None, address: str) -> None:
    """Run the migrations after ``version``, and record the newest; only the role that owns the tables may."""
    files = sorted(MIGRATIONS.glob("[0-9]*.sql"))
    if version is not None and version < files[0].stem:  # the first file creates all tables
        raise Conflict(
            "older_database",
            f"{errors.capitalized(address)} has version {version}, which this program cannot upgrade.",
            hint="With the popug that wrote it, run `popug database copy --from URL`; copy that home into an empty"
            " database with this one.",
            details={"found": version, "needed": NEWEST},
        )
    for file in files:
        if version is None or file.stem > version:
            driver.execute(file.read_bytes())
    driver.execute("DELETE FROM alembic_version WHERE version_num <> %s", (NEWEST,))
    driver.execute("INSERT INTO alembic_version (version_num) VALUES (%s) ON CONFLICT DO NOTHING", (NEWEST,))


def _grant(driver: "Driver", role: str) -> None:
    """Give a role the rights that popug needs; raise ``role_not_found``, or ``usage`` for the owner itself."""
    if driver.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is None:
        hint = "Create it with `createuser NAME`, or with CREATE ROLE, then try again."
        raise NotFound("role_not_found", f"PostgreSQL has no role {role!r}; nothing was changed.", hint=hint)
    if driver.execute("SELECT current_user = %s", (role,)).fetchone() == (True,):
        hint = "Create another role for the application, and name that one."
        raise InvalidInput("usage", f"The role {role!r} owns the tables, so it has all rights.", hint=hint)
    row = driver.execute("SELECT current_schema()").fetchone()
    names = {"schema": sql.Identifier(row[0] if row else "public"), "role": sql.Identifier(role)}
    for statement in GRANTS:
        driver.execute(sql.SQL(statement).format(**names))

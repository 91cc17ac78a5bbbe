"""The databases of the services on a PostgreSQL server: create them, and fill each in one transaction."""

from contextlib import closing, suppress
from typing import Any

import psycopg
from psycopg import sql

from popug_cli.bus.stream_store import adopt_database
from popug_cli.cluster.places import with_database
from popug_cli.cluster.targets import Targets, make_homes, now, occupied
from popug_cli.kernel.errors import IntegrityViolation, PopugError, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.kernel.progress import Progress
from popug_cli.messages.services import SERVICES
from popug_cli.storage import cluster_state
from popug_cli.storage.cluster_state import LOADING, ClusterState, FoundCompany
from popug_cli.storage.port import Connection
from popug_cli.storage.postgres import copying, errors, schema
from popug_cli.storage.postgres.driver import PostgresDatabase
from popug_cli.storage.postgres.session import open_session
from popug_cli.storage.postgres.url import address_of, connection_parameters
from popug_cli.storage.sqlite import SqliteDatabase

MAINTENANCE_DATABASE = "postgres"
SELECT_DATABASES = "SELECT datname FROM pg_database WHERE datname = ANY(%s)"
CREATE_DATABASE = "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER libc"
DROP_DATABASE = "DROP DATABASE IF EXISTS {name} WITH (FORCE)"
KEPT_TABLES = ("alembic_version", "bus_head")
SELECT_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"


class ServerTargets(Targets):
    """A database ``PREFIX_SERVICE`` for each service on one server, and a home without a database file."""

    def address(self, service: str) -> str:
        """Return the text that names a service's database."""
        return address_of(self.places.database_of(service))

    def prepare(self) -> None:
        """Create the missing databases and their tables, and the directory of the homes.

        Raise ``databases_missing`` if the role may not create databases.
        """
        make_homes(self.places.homes)
        if missing := self._missing():
            self._create(missing)
        for service in SERVICES:
            schema.migrate(self.places.database_of(service))

    def find(self, service: str) -> FoundCompany | None:
        """Return the company in a database; raise ``corrupt_database`` for one that another program uses, too."""
        if self.places.home_of(service).database.exists():
            raise occupied(self.places.home_of(service).root)
        if self._name(service) in self._missing():
            return None
        with closing(PostgresDatabase(self.places.database_of(service))) as database:
            if not database.is_created():
                return None
            with database.transaction(writes=False) as connection:
                return cluster_state.find(connection)

    def fill(self, service: str, staged: Home, state: ClusterState, progress: Progress) -> None:
        """Copy the file of a home into the database, and compare both logs; raise ``integrity`` if they differ."""
        with (
            closing(SqliteDatabase(staged.database)) as file,
            file.transaction(writes=False) as source,
            closing(self.open(service)) as database,
            database.transaction(writes=True) as connection,
        ):
            _truncate(connection)
            copying.from_file(source, connection, progress)
            if (position := copying.first_difference(source, connection)) is not None:
                raise _differs(database.address, position)
            adopt_database(connection)
            cluster_state.store(connection, state, now())
        home = self.places.home_of(service)
        home.make()
        if staged.config.exists() and not home.config.exists():
            home.config.write_bytes(staged.config.read_bytes())

    def empty(self, service: str, cluster_id: str) -> None:
        """Delete all rows; the tables stay."""
        with closing(self.open(service)) as database, database.transaction(writes=True) as connection:
            found = cluster_state.load(connection)
            if found is not None and found[:2] == (cluster_id, LOADING):
                _truncate(connection)

    def drop(self) -> None:
        """Delete the databases with all that is in them, and end the sessions that use them."""
        with closing(self._session()) as driver, errors.translate_errors(self._server):
            for service in SERVICES:
                driver.execute(sql.SQL(DROP_DATABASE).format(name=sql.Identifier(self._name(service))))

    def open(self, service: str) -> PostgresDatabase:
        """Return the database of a service."""
        return PostgresDatabase(self.places.database_of(service))

    def _name(self, service: str) -> str:
        return f"{self.places.prefix}_{service}"

    def _missing(self) -> list[str]:
        names = [self._name(service) for service in SERVICES]
        with closing(self._session()) as driver, errors.translate_errors(self._server):
            found = {name for (name,) in driver.execute(SELECT_DATABASES, (names,))}
        return [name for name in names if name not in found]

    def _create(self, names: list[str]) -> None:
        with closing(self._session()) as driver, errors.translate_errors(self._server):
            for name in names:
                try:
                    driver.execute(sql.SQL(CREATE_DATABASE).format(name=sql.Identifier(name)))
                except psycopg.errors.InsufficientPrivilege as error:
                    raise _databases_missing(self._server, names, self._role(driver)) from error
                except psycopg.errors.DuplicateDatabase:  # another process has just created it
                    continue

    def _session(self) -> Any:
        try:
            return open_session(connection_parameters(self._maintenance), self._server)
        except psycopg.Error as error:
            raise errors.connection_error(self._server, error) from error

    @property
    def _maintenance(self) -> str:
        return with_database(self.places.database, MAINTENANCE_DATABASE)

    @property
    def _server(self) -> str:
        return address_of(self._maintenance)

    @staticmethod
    def _role(driver: Any) -> str:
        with suppress(psycopg.Error):
            return str(driver.execute("SELECT current_user").fetchone()[0])
        return "ROLE"


def _truncate(connection: Connection) -> None:
    """Delete all rows but those that migrations insert; TRUNCATE does not fire the triggers that protect rows."""
    tables = sorted(name for (name,) in connection.select(SELECT_TABLES) if name not in KEPT_TABLES)
    connection.execute(f"TRUNCATE {', '.join(tables)}")


def _databases_missing(server: str, names: list[str], role: str) -> PopugError:
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return Unavailable(
        "databases_missing",
        f"The role {role} may not create databases, and the server {server.partition(' on ')[2]} has no {listed}."
        " Nothing was changed.",
        hint="Create them as a superuser, each with this role as its owner: "
        + "; ".join(f"createdb --owner={role} --template=template0 --encoding=UTF8 {name}" for name in names)
        + ".",
        details={"missing": names, "role": role},
    )


def _differs(address: str, position: int) -> IntegrityViolation:
    return IntegrityViolation(
        "integrity",
        f"The copy in {address} differs from its source at {position}, so nothing was kept.",
        hint="Run `popug doctor` on the source, then try again.",
    )

"""Run alembic's migrations on the given file, each in one write transaction."""

import sqlite3

from alembic import context
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import NullPool

from popug_cli.storage.sqlite import SqliteConnection, SqliteDatabase, connect

database = SqliteDatabase(context.config.attributes["database"])


def port_to(connection: Connection) -> SqliteConnection:
    """Return the port's view of alembic's connection, which begins and ends its transactions as everywhere else."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return SqliteConnection(database, driver, writes=True)


def connect_for_migration() -> sqlite3.Connection:
    """Return a connection that neither checks nor renames references, because a migration replaces referred tables.

    See https://www.sqlite.org/lang_altertable.html, section 7.
    """
    driver = connect(database.path)
    driver.execute("PRAGMA foreign_keys=OFF")
    driver.execute("PRAGMA legacy_alter_table=ON")
    return driver


engine = create_engine("sqlite://", creator=connect_for_migration, poolclass=NullPool)
event.listen(engine, "begin", lambda connection: port_to(connection).start())
event.listen(engine, "commit", lambda connection: port_to(connection).commit())
with engine.connect() as connection:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()

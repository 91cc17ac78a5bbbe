"""Where companies of the simulation have their data: a file in the home, or a database of a PostgreSQL server.

A home whose settings name a database gets that database copied, closed and dropped with it.
"""

import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from popug_cli.kernel.home import Home
from popug_cli.kernel.settings import DATABASE_URL, read_settings
from popug_cli.storage.port import Database
from popug_cli.storage.sqlite import SqliteDatabase

COPY_SECONDS = 60
Query = Callable[..., list[Any]]


class UnsyncedDatabase(SqliteDatabase):
    """A company's database without syncs, because this simulation does not test durability."""

    def _connect(self) -> sqlite3.Connection:
        driver = super()._connect()
        driver.execute("PRAGMA synchronous=OFF")
        return driver


def open_database(home: Home) -> Database:
    """Open the database of a home."""
    if url := _url(home.root):
        from popug_cli.storage.postgres.driver import PostgresDatabase

        return PostgresDatabase(url)
    return UnsyncedDatabase(home.database)


def prepare(root: Path, server_url: str) -> None:
    """Make a home whose company will be in a new database of the server; do nothing without a server.

    ``server_url`` names a database of the server for a role that may create databases.
    """
    if server_url:
        Home(root).make()
        url = _create(server_url, "template0")
        Home(root).config.write_text(f'[database]\nurl = "{url}"\n', encoding="utf-8")


def give_consumers_time(root: Path) -> None:
    """Let consumers catch up for as long as it takes, since the speed of the machine must not change a world."""
    with Home(root).config.open("a", encoding="utf-8") as config:
        config.write("[bus]\ncatch_up_seconds = 86400\n")


def copy(template: Path, root: Path) -> None:
    """Copy a company that no process has open."""
    shutil.copytree(template, root)
    if url := _url(template):
        config = Home(root).config
        config.write_text(config.read_text(encoding="utf-8").replace(url, _create(url, _database_of(url))))


@contextmanager
def snapshot(root: Path) -> Iterator[Query]:
    """Yield a function that reads one snapshot of a company, past popug's drivers; ``?`` stands for a value."""
    if url := _url(root):
        import psycopg

        with psycopg.connect(url) as reader:
            reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            reader.read_only = True
            yield lambda statement, *values: reader.execute(
                statement.replace("?", "%s").encode(), values or None
            ).fetchall()
        return
    uri = f"{Home(root).database.as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30)) as file:
        file.execute("BEGIN")
        yield lambda statement, *values: file.execute(statement, values).fetchall()


def is_on_server(root: Path) -> bool:
    """Return whether a company's database is on a server."""
    return bool(_url(root))


def remove(root: Path) -> None:
    """Remove a company."""
    if url := _url(root):
        _run(url, f"DROP DATABASE {_database_of(url)} WITH (FORCE)")
    shutil.rmtree(root)


def _url(root: Path) -> str:
    return read_settings(Home(root).config, {}).text(DATABASE_URL)


def _database_of(url: str) -> str:
    return url.rpartition("/")[2]


def _create(server_url: str, template: str) -> str:
    """Create a database as a copy of a template, and return its URL."""
    import psycopg

    name = f"simulation_{secrets.token_hex(6)}"
    deadline = time.monotonic() + COPY_SECONDS
    while True:
        try:
            _run(server_url, f"CREATE DATABASE {name} TEMPLATE {template}")
        except psycopg.errors.ObjectInUse:  # a session of the template is still ending
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return f"{server_url.rpartition('/')[0]}/{name}"


def _run(url: str, statement: str) -> Any:
    import psycopg

    with psycopg.connect(f"{url.rpartition('/')[0]}/postgres", autocommit=True) as session:
        session.execute(statement.encode())

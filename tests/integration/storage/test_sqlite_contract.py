"""The driver for SQLite keeps the contract of the port."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from popug_cli.kernel.home import Home
from popug_cli.storage import migrate
from popug_cli.storage.port import Database
from popug_cli.storage.sqlite import SqliteDatabase
from tests.integration.storage.contract import DriverContract, count_up

__all__ = ["count_up", "open_again"]


def open_again(place: str) -> Database:
    """Open the database of that path in a subprocess."""
    return SqliteDatabase(Path(place))


class TestSqlite(DriverContract):
    """The contract, on a file."""

    driver_error = sqlite3.Error

    @pytest.fixture
    def database(self, tmp_path: Path) -> Iterator[Database]:
        home = Home(tmp_path / "home")
        migrate.create(home)
        self.place = str(home.database)
        database = SqliteDatabase(home.database)
        with database.transaction(writes=True) as connection:
            connection.execute("CREATE TABLE sums (name TEXT PRIMARY KEY, cents INTEGER CHECK (cents < 5000)) STRICT")
        yield database
        database.close()

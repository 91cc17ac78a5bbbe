"""The driver for PostgreSQL keeps the contract of the port."""

from collections.abc import Iterator

import pytest

from popug_cli.kernel.errors import InvalidInput
from popug_cli.storage.port import Database
from tests.integration.storage.contract import DriverContract, count_up
from tests.support.postgres.programs import require_postgres
from tests.support.postgres.server import OWNER, PostgresServer

require_postgres()

import psycopg  # noqa: E402

from popug_cli.storage.postgres import schema  # noqa: E402
from popug_cli.storage.postgres.driver import PostgresDatabase  # noqa: E402

__all__ = ["count_up", "open_again"]


def open_again(place: str) -> Database:
    """Open the database of that URL in a subprocess."""
    return PostgresDatabase(place)


class TestPostgres(DriverContract):
    """The contract, on a server."""

    driver_error = psycopg.Error

    @pytest.fixture
    def database(self, postgres: PostgresServer) -> Iterator[Database]:
        name = postgres.create_database()
        self.place = postgres.url(name)
        schema.migrate(self.place)
        sums = 'CREATE TABLE sums (name TEXT COLLATE "C" PRIMARY KEY, cents BIGINT CHECK (cents < 5000))'
        postgres.execute(sums, database=name, role=OWNER)
        database = PostgresDatabase(self.place)
        yield database
        database.close()
        postgres.drop_database(name)

    @pytest.mark.parametrize("count", [1, 30])
    def test_text_with_nul_is_refused_not_cut_short(self, database: Database, count: int) -> None:
        rows = [(f"{number}\0b", 1) for number in range(count)]
        with pytest.raises(InvalidInput) as refusal, self.writing(database) as connection:
            connection.execute_many("INSERT INTO sums (name, cents) VALUES (?, ?)", rows)
        assert refusal.value.code == "invalid_text"
        assert self.stored(database) == {}

    def test_long_text_with_nul_is_refused(self, database: Database) -> None:
        with pytest.raises(InvalidInput), self.writing(database) as connection:
            connection.execute("INSERT INTO sums (name) VALUES (?)", "x" * 10_000 + "\0")
        assert self.stored(database) == {}

"""The promises of every driver behind ``storage/port.py``. The tests of a driver inherit from ``DriverContract``."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, ClassVar

import pytest

from popug_cli.kernel.errors import IntegrityViolation, PopugError
from popug_cli.storage.port import BULK_ROW_COUNTS, VALUES_PER_STATEMENT, Connection, Database

PROCESSES, TURNS = 8, 25
PATIENCE_SECONDS = 60
MANY = max(BULK_ROW_COUNTS) + sum(BULK_ROW_COUNTS) + 7


class Undone(Exception):
    """Raised to roll something back."""


class DriverContract:
    """Tests of one driver; a subclass has the fixture ``database``, a company's database with an empty table ``sums``.

    ``sums`` has the columns ``name``, its key, and ``cents``, an integer below 5000 or null. ``open_again`` is the name
    of a function of the subclass's module that opens the database of a subprocess's first argument.
    """

    driver_error: ClassVar[type[Exception]]
    """The ancestor of the driver's own errors."""
    place: str
    """The argument from which a subprocess opens the database."""

    @contextmanager
    def writing(self, database: Database) -> Iterator[Connection]:
        with database.write_transaction() as (connection, _):
            yield connection

    def stored(self, database: Database) -> dict[str, Any]:
        with database.transaction(writes=False) as connection:
            return dict(connection.select("SELECT name, cents FROM sums ORDER BY name"))

    # Transactions.

    def test_committed_rows_are_seen_by_others(self, database: Database) -> None:
        with self.writing(database) as connection:
            assert connection.execute("INSERT INTO sums (name, cents) VALUES (?, ?)", "a", 1) == 1
            assert self.stored(database) == {}
        assert self.stored(database) == {"a": 1}

    def test_exception_rolls_back_and_is_raised(self, database: Database) -> None:
        restored: list[str] = []
        with pytest.raises(Undone), database.write_transaction() as (connection, on_rollback):
            insert_and_fail(connection, on_rollback.callback(lambda: restored.append("file")))
        assert (self.stored(database), restored) == ({}, ["file"])
        with self.writing(database) as connection:
            connection.execute("INSERT INTO sums (name, cents) VALUES ('b', 2)")
        assert self.stored(database) == {"b": 2}

    def test_reader_sees_one_snapshot(self, database: Database) -> None:
        with database.transaction(writes=False) as reader:
            before = reader.select("SELECT name FROM sums")
            with self.writing(database) as writer:
                writer.execute("INSERT INTO sums (name) VALUES ('a')")
            assert reader.select("SELECT name FROM sums") == before == []
        assert self.stored(database) == {"a": None}

    def test_refused_statement_leaves_the_connection_usable(self, database: Database) -> None:
        with pytest.raises((self.driver_error, PopugError)), self.writing(database) as connection:
            connection.execute("INSERT INTO sums (name, cents) VALUES ('a', 5000)")
        with self.writing(database) as connection:
            connection.execute("INSERT INTO sums (name, cents) VALUES ('a', 4999)")
        assert self.stored(database) == {"a": 4999}

    def test_second_writer_waits_for_the_first(self, database: Database) -> None:
        begun, order = Event(), list[str]()

        def second() -> None:
            begun.set()
            with self.writing(database):
                order.append("second")

        thread = Thread(target=second)
        with self.writing(database):
            thread.start()
            assert begun.wait(PATIENCE_SECONDS)
            thread.join(0.2)
            order.append("first")
        thread.join(PATIENCE_SECONDS)
        assert order == ["first", "second"]

    def test_threads_share_one_database(self, database: Database) -> None:
        with self.writing(database) as connection:
            connection.execute("INSERT INTO sums (name, cents) VALUES ('a', 0)")

        def read(_: int) -> Any:
            with database.transaction(writes=False) as reader:
                return reader.scalar("SELECT cents FROM sums")

        with ThreadPoolExecutor(16) as threads:
            assert [*threads.map(read, range(2_000))] == [0] * 2_000

    def test_eight_processes_lose_no_write(self, database: Database) -> None:
        with self.writing(database) as connection:
            connection.execute("INSERT INTO sums (name, cents) VALUES ('a', 0)")
        module = type(self).__module__
        program = f"import sys; from {module} import open_again, count_up; count_up(open_again(sys.argv[1]), {TURNS})"
        processes = [subprocess.Popen([sys.executable, "-c", program, self.place]) for _ in range(PROCESSES)]
        assert [process.wait(PATIENCE_SECONDS * 5) for process in processes] == [0] * PROCESSES
        assert self.stored(database) == {"a": PROCESSES * TURNS}

    def test_database_of_a_newer_popug_is_not_written(self, database: Database) -> None:
        with self.writing(database) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(IntegrityViolation) as refusal, self.writing(database):
            raise AssertionError("the transaction began")
        assert refusal.value.code == "newer_database"
        assert self.stored(database) == {}

    def test_statement_in_its_own_transaction_is_committed(self, database: Database) -> None:
        with database.connection(writes=True) as connection:
            connection.execute_in_own_transaction("INSERT INTO sums (name, cents) VALUES (?, ?)", [("a", 1), ("b", 2)])
            assert self.stored(database) == {"a": 1, "b": 2}
            with pytest.raises(self.driver_error):
                connection.execute_in_own_transaction("INSERT INTO sums (name) VALUES (?)", [("c",), ("a",)])
            assert not connection.is_in_transaction()
        assert self.stored(database) == {"a": 1, "b": 2}

    # Savepoints.

    def test_savepoint_is_kept_undone_or_undone_by_an_error(self, database: Database) -> None:
        with self.writing(database) as connection:
            with connection.savepoint():
                connection.execute("INSERT INTO sums (name) VALUES ('kept')")
                with pytest.raises(Undone), connection.savepoint():
                    insert_and_fail(connection)
            with connection.savepoint(keep=False):
                connection.execute("INSERT INTO sums (name) VALUES ('tried')")
            with pytest.raises(self.driver_error), connection.savepoint():
                connection.execute("INSERT INTO sums (name) VALUES ('kept')")
        assert self.stored(database) == {"kept": None}

    # Statements.

    def test_each_method_returns_rows_in_its_form(self, database: Database) -> None:
        with self.writing(database) as connection:
            before = connection.changed_rows
            assert connection.execute_many("INSERT INTO sums (name, cents) VALUES (?, ?)", [("a", 1), ("b", None)]) == 2
            assert connection.changed_rows - before == 2
            every = "SELECT name, cents FROM sums ORDER BY name"
            one = "SELECT name, cents FROM sums WHERE name = :name"
            assert connection.select(every) == [("a", 1), ("b", None)]
            assert connection.records(every) == [{"name": "a", "cents": 1}, {"name": "b", "cents": None}]
            assert [*connection.stream(every)] == connection.select(every)
            assert connection.column(every) == ["a", "b"]
            assert (connection.select_one(one, name="a"), connection.select_one(one, name="c")) == (("a", 1), None)
            assert connection.record(one, name="b") == {"name": "b", "cents": None}
            assert connection.record(one, name="c") is None
            assert connection.scalar("SELECT cents FROM sums WHERE name = ?", "a") == 1
            assert connection.scalar("SELECT cents FROM sums WHERE name = ?", "c") is None
            assert connection.execute("UPDATE sums SET cents = :cents WHERE name <> :name", cents=9, name="c") == 2
            assert connection.scalar("SELECT sum(cents) FROM sums") == 18

    def test_text_is_never_a_part_of_a_statement(self, database: Database) -> None:
        hostile = "'); DELETE FROM sums; -- ? :name %s %(name)s é ✓"
        with self.writing(database) as connection:
            connection.execute("INSERT INTO sums (name) VALUES (:name)", name=hostile)
            assert connection.column("SELECT name || ':name ? %s' FROM sums") == [f"{hostile}:name ? %s"]

    def test_bulk_rows_are_inserted_merged_and_counted(self, database: Database) -> None:
        merge = (
            "INSERT INTO sums (name, cents) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET cents = sums.cents + excluded.cents"
        )
        rows = [(f"n{number:04}", number) for number in range(MANY)]
        with self.writing(database) as connection:
            assert connection.insert_many(merge, rows[:3]) == 3
            assert connection.insert_many(merge, rows) == MANY
            assert connection.insert_many(merge, []) == 0
        assert self.stored(database) == {**dict(rows), "n0001": 2, "n0002": 4}

    @pytest.mark.parametrize(
        "extra", ["", "\x1f", "NULL", "\x1f\x1e\x1d", "{}", '",\\"', "\\x1f", "'; --", "%s ? :name", "\t\r\n ü🦜"]
    )
    def test_bulk_rows_keep_every_text(self, database: Database, extra: str) -> None:
        rows = [(f"{number}{extra}", None) for number in range(MANY)] + [(extra, 0)]
        with self.writing(database) as connection:
            assert connection.insert_many("INSERT INTO sums (name, cents) VALUES (?, ?)", rows) == MANY + 1
            again = "INSERT INTO sums (name, cents) VALUES (?, ?) ON CONFLICT (name) DO NOTHING"
            assert connection.insert_many(again, rows) == 0
        assert self.stored(database) == dict(rows)

    @pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 499, 500, 501, 1_001])
    def test_any_number_of_rows_is_inserted(self, database: Database, count: int) -> None:
        rows = [
            ("" if number == count - 1 else f"n{number}", number if number % 2 else None) for number in range(count)
        ]
        with self.writing(database) as connection:
            assert connection.execute_many("INSERT INTO sums (name, cents) VALUES (?, ?)", rows) == count
            assert (
                connection.execute_many("UPDATE sums SET cents = 1 WHERE name = ?", [row[:1] for row in rows]) == count
            )
        assert self.stored(database) == {name: 1 for name, _ in rows}

    def test_execute_many_meets_a_key_again(self, database: Database) -> None:
        add = (
            "INSERT INTO sums (name, cents) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET cents = sums.cents + excluded.cents"
        )
        with self.writing(database) as connection:
            assert connection.execute_many(add, [("a", 1)] * MANY) == MANY
        assert self.stored(database) == {"a": MANY}

    def test_long_texts_and_numbers_are_values_of_a_statement(self, database: Database) -> None:
        text = "\\'é\n\"%s?" * 10_000
        with self.writing(database) as connection:
            connection.execute("INSERT INTO sums (name, cents) VALUES (:name, :cents)", name=text, cents=-1)
            assert connection.select_one("SELECT name, cents FROM sums WHERE name = ?", text) == (text, -1)
            assert connection.execute("UPDATE sums SET cents = 7 WHERE name = ? AND cents = ?", text, -1) == 1
        assert self.stored(database) == {text: 7}

    def test_rows_are_selected_by_very_many_values(self, database: Database) -> None:
        names = [f"n{number:04}" for number in range(2 * VALUES_PER_STATEMENT + 1)]
        with self.writing(database) as connection:
            connection.insert_many("INSERT INTO sums (name) VALUES (?)", [(name,) for name in names])
            statement = "SELECT name FROM sums WHERE name > ? AND name IN"
            assert connection.select_in(statement, names, names[0]) == [(name,) for name in names[1:]]
            assert connection.select_in(statement, [], names[0]) == []
            assert len(connection.records_in("SELECT name FROM sums WHERE name IN", names)) == len(names)


def insert_and_fail(connection: Connection, *_: object) -> None:
    """Insert a row, then raise ``Undone``."""
    connection.execute("INSERT INTO sums (name) VALUES ('failed')")
    raise Undone


def count_up(database: Database, turns: int) -> None:
    """Add 1 to the only sum in transactions of their own, reading before writing."""
    for _ in range(turns):
        with database.write_transaction() as (connection, _):
            cents = connection.scalar("SELECT cents FROM sums")
            connection.execute("UPDATE sums SET cents = :cents", cents=cents + 1)

"""The migration to ranges of done events and to counts of draws gives the same answers as the rows and the log did."""

import sqlite3
from collections import Counter
from contextlib import closing
from importlib import import_module
from pathlib import Path
from random import Random

import pytest

from popug_cli import bootstrap
from popug_cli.kernel.home import Home
from popug_cli.messages.billing import PayoutMade
from popug_cli.messages.tasks import DayEnded
from tests.generate.releases import unpack

MIGRATION = import_module("popug_cli.storage.migrations.versions.0011_fewer_rows")
DONE = "SELECT consumer, sequence FROM bus_inbox"


def migrated(database: sqlite3.Connection) -> None:
    for statement in MIGRATION.STATEMENTS:
        database.execute(statement)


@pytest.fixture
def database(tmp_path: Path) -> "closing[sqlite3.Connection]":
    home = Home(tmp_path / "home")
    unpack("0006", home)
    return closing(sqlite3.connect(home.database, isolation_level=None))


def test_subscriptions_are_those_of_the_consumers() -> None:
    later = {PayoutMade.TYPE, DayEnded.TYPE}  # no home of that age has such events
    subscribed = {consumer.name: set(consumer.types) for consumer in bootstrap.consumers()}
    assert {name: set(types) for name, types in MIGRATION.SUBSCRIPTIONS.items()} == {
        name: types - later for name, types in subscribed.items()
    }


@pytest.mark.parametrize("seed", range(12))
def test_migrated_ranges_have_the_done_events(database: "closing[sqlite3.Connection]", seed: int) -> None:
    chance = Random(seed)
    with database as connection:
        for consumer, sequence in connection.execute(f"{DONE} ORDER BY 1, 2").fetchall() if seed else []:
            if chance.random() < chance.choice([0, 0.1, 0.5]):
                connection.execute("DELETE FROM bus_inbox WHERE consumer = ? AND sequence = ?", (consumer, sequence))
        if seed % 3 == 1:
            connection.execute("UPDATE bus_cursors SET position = position / 2")
        if seed % 3 == 2:
            connection.execute("INSERT INTO bus_inbox VALUES ('mail', 99999)")
        done = set(connection.execute(DONE))
        types = dict(connection.execute("SELECT sequence, type FROM bus_log"))
        migrated(connection)
        ranges = connection.execute("SELECT * FROM bus_inbox ORDER BY 1, 2").fetchall()
        [(parked,)] = connection.execute("SELECT count(*) FROM bus_set_aside")
    covered = {
        (consumer, sequence) for consumer, first, last in ranges for sequence in types if first <= sequence <= last
    }
    subscriptions = MIGRATION.SUBSCRIPTIONS
    assert {(c, s) for c, s in covered if types[s] in subscriptions[c]} == {(c, s) for c, s in done if s in types}
    assert ("mail", 99999) not in done or any(c == "mail" and last == 99999 for c, _, last in ranges)
    if not seed:
        assert len(ranges) <= len(subscriptions) + parked


def test_migrated_counts_are_those_of_the_log(database: "closing[sqlite3.Connection]") -> None:
    with database as connection:
        connection.execute(
            "INSERT INTO bus_log (envelope) SELECT replace(envelope, id, 'another') FROM bus_log"
            " WHERE type = 'popug.tasks.task_assigned.v1' LIMIT 1"
        )
        changes = [row[0] for row in connection.execute("SELECT DISTINCT from_position FROM tasks_people_history")]
        draws = connection.execute(
            "SELECT json_extract(envelope, '$.data.draw.candidates_as_of'),"
            " json_extract(envelope, '$.data.assignee_id') FROM bus_log"
            " WHERE type = 'popug.tasks.task_assigned.v1' AND id <> 'another'"
        ).fetchall()
        migrated(connection)
        counts = connection.execute(
            "SELECT candidates_since, assignee_id, draws_count FROM tasks_draw_counts"
        ).fetchall()
    expected = Counter((max(change for change in changes if change <= as_of), assignee) for as_of, assignee in draws)
    assert {(since, assignee): count for since, assignee, count in counts} == expected
    assert len(expected) > 1

"""The migration to smaller rows keeps every row, ids with the same end stay different, and a task takes few bytes."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine

from popug_cli.billing.queries import list_task_entries
from popug_cli.bus.context import Context
from popug_cli.bus.queries import list_events, show_event
from popug_cli.kernel.home import Home
from popug_cli.messages.billing import ListTaskEntries
from popug_cli.messages.bus import ListEvents, ShowEvent
from popug_cli.messages.company import CheckHealth
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import ImportTasks, NewTask, ShuffleTasks
from popug_cli.storage.migrate import migrate
from tests.generate.releases import unpack
from tests.support.company import InProcess
from tests.support.ledger_company import company_with_a_past, tamper

MIGRATION = import_module("popug_cli.storage.migrations.versions.0012_smaller_rows")
TABLES = {table: key for table, _, key, _ in MIGRATION.TABLES}
IMPORTED_BYTES, SHUFFLED_BYTES = 4_000, 2_150  # a task; 3,870 and 2,060 were measured with 100,000


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    return company_with_a_past(tmp_path_factory.mktemp("company"))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    home = Home(tmp_path / "home")
    unpack("0006", home)
    migrate(home.database, "0011")
    return home.database


def run_migration(database: Path) -> None:
    engine = create_engine(f"sqlite:///{database}")
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        MIGRATION.upgrade()
    engine.dispose()


def rows_of(database: Path) -> dict[str, list[dict[str, Any]]]:
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        return {
            table: [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY {key}")]
            for table, key in TABLES.items()
        }


def size_of(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        pages, free, page_bytes = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    return int((pages - free) * page_bytes)


@pytest.mark.parametrize("chunk_rows", [1, 3, 20_000])
def test_migration_keeps_every_row(database: Path, monkeypatch: pytest.MonkeyPatch, chunk_rows: int) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        for sequence in (-7, 2**62):  # other programs may insert at any position
            connection.execute(
                "INSERT INTO bus_log (sequence, envelope) SELECT ?, replace(envelope, id, ?) FROM bus_log"
                " WHERE sequence = 9",
                (sequence, f"event {sequence}"),
            )
    before = rows_of(database)
    monkeypatch.setattr(MIGRATION, "CHUNK_ROWS", chunk_rows)
    run_migration(database)
    after = rows_of(database)
    for row in after["bus_log"]:
        del row["frequent_type"]
    assert after == before
    assert all(len(rows) > 5 for rows in before.values())


def test_migration_uses_the_pages_of_the_old_rows(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    unpack("0006", home)
    migrate(home.database, "0011")
    with closing(sqlite3.connect(home.database)) as connection, connection:
        connection.execute(
            "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 60000)"
            " INSERT INTO bus_log (envelope) SELECT replace(envelope, id, 'event ' || n) FROM bus_log, number"
            " WHERE sequence = 9"
        )
    before = home.database.stat().st_size
    run_migration(home.database)
    assert size_of(home.database) < before
    assert home.database.stat().st_size < 1.4 * before


def test_migration_keeps_damaged_rows_and_foreign_views(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE VIEW amounts AS SELECT sum(amount_cents) AS cents FROM billing_entries")
        connection.execute("DROP TRIGGER billing_tasks_no_delete")
        connection.execute("DELETE FROM billing_tasks")
        (before,) = connection.execute("SELECT cents FROM amounts")
        missing = connection.execute("SELECT count(*) FROM pragma_foreign_key_check").fetchall()
    migrate(database)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT cents FROM amounts").fetchall() == [before]
        assert connection.execute("SELECT count(*) FROM pragma_foreign_key_check").fetchall() == missing != [(0,)]


def test_new_database_has_pages_of_8_kib(company: InProcess) -> None:
    assert company.rows("PRAGMA page_size") == [{"page_size": 8192}]


def test_imported_and_shuffled_tasks_take_few_bytes(tmp_path: Path) -> None:
    tasks = 4_000
    company = InProcess(tmp_path / "home")
    for number in range(20):
        company.hire(f"p{number:02}")

    def settled_size() -> int:
        while not company.backend.catch_up().complete:
            pass
        return size_of(company.root / "popug.db")

    empty = settled_size()
    company.act("boss", ImportTasks(lines=[NewTask(title=f"Run 0, chore {number}") for number in range(tasks)]))
    imported = settled_size()
    company.act("boss", ShuffleTasks())
    shuffled = settled_size()
    company.backend.close()
    assert (imported - empty) / tasks < IMPORTED_BYTES
    assert (shuffled - imported) / tasks < SHUFFLED_BYTES


def with_same_ends(context: Context) -> tuple[str, str, str]:
    """Insert a copy of an event whose id and subject differ at their beginnings only, and return both ids."""
    statement = "SELECT id, subject, envelope FROM bus_log WHERE type LIKE '%task_assigned%' ORDER BY sequence LIMIT 1"
    [(event_id, subject, envelope)] = context.connection.select(statement)
    other_id, other_subject = f"0000{event_id[4:]}", f"0000{subject[4:]}"
    envelope = envelope.replace(event_id, other_id).replace(f'"{subject}"', f'"{other_subject}"')
    context.connection.execute("INSERT INTO bus_log (envelope) VALUES (?)", envelope)
    return event_id, other_id, subject


def test_ids_with_the_same_end_are_told_apart(tmp_path: Path) -> None:
    company = company_with_a_past(tmp_path / "home")
    with company.backend.runtime.writing(OPERATOR) as context:
        event_id, other_id, subject = with_same_ends(context)
        other_subject = f"0000{subject[4:]}"
        events = {each: context.log.by_id(each) for each in (event_id, other_id)}
        assert {each: event.id for each, event in events.items() if event} == {event_id: event_id, other_id: other_id}
        assert context.log.by_ids([other_id]) == {other_id: events[other_id]}
        assert context.log.by_ids([event_id, other_id, "short"]) == events
        assert [event.id for event in context.log.by_subject(other_subject)] == [other_id]
        assert other_id not in {event.id for event in context.log.by_subject(subject)}
        assert show_event(ShowEvent(event_id=other_id), context)["id"] == other_id
        listed = list_events(ListEvents(subject=other_subject), context).events
        assert [event["id"] for event in listed] == [other_id]
        assert list_task_entries(ListTaskEntries(task_id=other_subject), context).entries == []
        assert list_task_entries(ListTaskEntries(task_id=subject), context).entries != []


@pytest.mark.parametrize("event_id", ["", "x", "evt-1", "é" * 30, "x" * 200])
def test_event_with_an_id_of_any_length_is_found(tmp_path: Path, event_id: str) -> None:
    company = company_with_a_past(tmp_path / "home")
    with company.backend.runtime.writing(OPERATOR) as context:
        context.connection.execute(
            "INSERT INTO bus_log (envelope) SELECT replace(envelope, id, ?) FROM bus_log WHERE sequence = 9", event_id
        )
        assert show_event(ShowEvent(event_id=event_id), context)["id"] == event_id


def test_doctor_finds_two_events_with_the_same_id(tmp_path: Path) -> None:
    company = company_with_a_past(tmp_path / "home")
    with company.backend.runtime.writing(OPERATOR) as context:
        with_same_ends(context)

    def found() -> list[str]:
        checks = {check.name: check for check in company.backend.perform(CheckHealth()).checks}
        check = checks["event_ids_are_unique"]
        return [] if check.ok else [check.detail]

    assert found() == []
    tamper(company, "INSERT INTO bus_log (envelope) SELECT envelope FROM bus_log WHERE sequence = 9")
    (event_id,) = company.rows("SELECT id FROM bus_log WHERE sequence = 9")[0].values()
    assert event_id in found()[0]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (lambda context: context.log.by_id("x"), "bus_log_id"),
        (lambda context: context.log.by_ids(["x", "y"]), "bus_log_id"),
        (lambda context: context.log.by_subject("x"), "bus_log_subject"),
        (lambda context: list_events(ListEvents(subject="x"), context), "bus_log_subject"),
        (lambda context: list_task_entries(ListTaskEntries(task_id="x"), context), "billing_entries_task"),
    ],
    ids=["by_id", "by_ids", "by_subject", "list_events", "list_task_entries"],
)
def test_lookup_by_id_uses_the_index_of_its_end(
    company: InProcess, monkeypatch: pytest.MonkeyPatch, query: Callable[[Context], Any], index: str
) -> None:
    seen: list[tuple[str, Any]] = []
    with company.backend.runtime.reading(OPERATOR) as context:
        connection = type(context.connection)
        for name in ("run", "select"):
            original = getattr(connection, name)

            def collect(self: Any, statement: str, *values: Any, original: Any = original, **named: Any) -> Any:
                seen.append((statement, named or (values[0] if values and not isinstance(values[0], str) else values)))
                return original(self, statement, *values, **named)

            monkeypatch.setattr(connection, name, collect)
        query(context)
        monkeypatch.undo()
        plans = [
            "\n".join(row[3] for row in context.connection.run(f"EXPLAIN QUERY PLAN {statement}", values))
            for statement, values in seen
        ]
    assert f"USING INDEX {index} (<expr>=?" in "\n".join(plans)
    assert [each for each in plans if "SCAN bus_log" in each or "SCAN entry" in each] == []

"""The migration to ended days: tasks knows the first day, and has ended what billing had closed."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from popug_cli.app import LocalBackend
from popug_cli.app.asking import CompanySnapshot
from popug_cli.kernel.home import Home
from popug_cli.messages.base import Message, Role
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.company import CheckHealth
from popug_cli.messages.internal.tasks import EndDay, EndedDay
from popug_cli.messages.principal import OPERATOR, Principal
from popug_cli.messages.tasks import AddTask, CompleteTask
from popug_cli.storage.migrate import migrate
from popug_cli.storage.postgres import schema
from tests.generate.releases import FIRST, LAST, LAST_CLOSED, unpack
from tests.support.company import SeededChance, SetClock
from tests.support.postgres.server import OWNER, PostgresServer

Answer = TypeVar("Answer")


def test_released_home_has_ended_what_it_had_closed(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    unpack("0006", home)
    migrate(home.database, "0015")
    with closing(sqlite3.connect(home.database)) as database:
        closed = database.execute("SELECT max(business_date), closed_at FROM billing_days").fetchall()
        first = database.execute("SELECT id, first_day FROM billing_company").fetchall()
    migrate(home.database, "0017")
    with closing(sqlite3.connect(home.database)) as database:
        assert database.execute("SELECT business_date, ended_at FROM tasks_ended_days").fetchall() == closed
        assert database.execute("SELECT * FROM tasks_company").fetchall() == first
        assert database.execute("SELECT * FROM billing_ended_days").fetchall() == []
    assert closed[0][0] is not None
    assert len(first) == 1


@dataclass
class Released:
    """A released home, its clock, and its users as principals."""

    backend: LocalBackend
    clock: SetClock

    def act(self, username: str, message: Message[Answer]) -> Answer:
        (row,) = self.rows(f"SELECT user_id, role FROM identity_users WHERE username = '{username}'")
        return self.backend.perform_as(Principal(username, row["user_id"], Role(row["role"])), message)

    def rows(self, statement: str) -> list[dict[str, Any]]:
        with self.backend.runtime.reading(OPERATOR) as context:
            return context.connection.records(statement)


@pytest.fixture
def migrated(tmp_path: Path) -> Released:
    """A company of the first release, opened by this program a day after its last closed day."""
    home = Home(tmp_path / "home")
    unpack("0006", home)
    clock = SetClock(datetime(2026, 3, 5, 18, tzinfo=UTC))
    return Released(LocalBackend(home, clock=clock, randomness=SeededChance()), clock)


def test_day_closed_before_the_migration_has_no_event(migrated: Released) -> None:
    with migrated.backend.runtime.writing(OPERATOR) as context:
        ask = CompanySnapshot(context).ask
        assert ask(EndDay(day=FIRST)) == ask(EndDay(day=LAST_CLOSED)) == EndedDay(LAST_CLOSED, None)
        ended = ask(EndDay(day=LAST))
        assert (ended.day, ended.event_id is not None) == (LAST, True)
        assert ask(EndDay(day=LAST)) == ended


def test_company_goes_on_after_the_migration(migrated: Released) -> None:
    report = migrated.act("boss", CloseDay(send_mail=False))
    assert [day.business_date for day in report.days] == [LAST]
    task = migrated.act("boss", AddTask(title="Feed the cage"))
    assert task.counts_for == LAST + timedelta(days=1)
    migrated.act(task.assignee, CompleteTask(number=task.number))
    migrated.clock.advance(days=1)
    assert len(migrated.act("boss", CloseDay(send_mail=False)).days) == 1
    ended = migrated.rows("SELECT business_date, event_id IS NULL AS is_old FROM tasks_ended_days ORDER BY 1")
    assert ended == [
        {"business_date": "2026-03-04", "is_old": 1},
        {"business_date": "2026-03-05", "is_old": 0},
        {"business_date": "2026-03-06", "is_old": 0},
    ]
    failed = [check.name for check in migrated.backend.perform(CheckHealth()).checks if not check.ok]
    assert failed == ["keys"]  # the kept home has none


def test_older_postgresql_has_ended_what_it_had_closed(postgres: PostgresServer) -> None:
    name = postgres.create_database()
    with postgres.session(name, OWNER) as session:
        for file in ("0014.sql", "0015.sql"):
            session.execute((schema.MIGRATIONS / file).read_bytes())
        session.execute("INSERT INTO alembic_version (version_num) VALUES ('0015')")
        session.execute("INSERT INTO billing_company (id, first_day) VALUES (1, '2026-03-01')")
        for day in ("2026-03-01", "2026-03-02"):
            session.execute(
                "INSERT INTO billing_days (business_date, fees_cents, rewards_cents, payouts_cents, paid_count,"
                f" in_red_count, closed_at) VALUES ('{day}', 0, 0, 0, 0, 0, '{day}T23:00:00.000000Z')"
            )
    assert schema.migrate(postgres.url(name))[0] == "0015"
    rows = postgres.execute("SELECT * FROM tasks_ended_days", database=name, role=OWNER)
    assert rows == [("2026-03-02", None, "2026-03-02T23:00:00.000000Z")]
    assert postgres.execute("SELECT * FROM tasks_company", database=name, role=OWNER) == [(1, "2026-03-01")]

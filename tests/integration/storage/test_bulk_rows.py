"""Bulk writes, and skipping a great many events at once."""

import sqlite3
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from popug_cli.bus.context import Context
from popug_cli.messages.base import Role
from popug_cli.messages.identity import UserRegistered
from popug_cli.messages.mail import MailSent, SendMail
from popug_cli.messages.principal import OPERATOR
from popug_cli.storage.port import BULK_ROW_COUNTS, Connection
from popug_cli.storage.sqlite import SqliteDatabase
from tests.support.company import InProcess

MANY = 2 * max(BULK_ROW_COUNTS) + sum(BULK_ROW_COUNTS) + 7
MERGE = "INSERT INTO sums (name, cents) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET cents = cents + excluded.cents"
MOVE = "UPDATE sums SET cents = cents + move.column2 FROM (VALUES (?, ?)) AS move WHERE name = move.column1"


@pytest.fixture
def sums(tmp_path: Path) -> Iterator[Connection]:
    file = tmp_path / "sums.db"
    file.touch()
    with SqliteDatabase(file).connection(writes=True) as connection:
        connection.execute("CREATE TABLE sums (name TEXT PRIMARY KEY, cents INTEGER CHECK (cents < 5000))")
        yield connection


def stored(sums: Connection) -> dict[str, int]:
    return dict(sums.select("SELECT name, cents FROM sums"))


def test_many_rows_are_merged_and_counted(sums: Connection) -> None:
    sums.insert_many(MERGE, [("n000", 5), ("n126", 7)])
    assert sums.insert_many(MERGE, [(f"n{n:03}", n) for n in range(MANY)]) == MANY
    assert stored(sums) == {f"n{n:03}": n for n in range(MANY)} | {"n000": 5, "n126": 133}


def test_many_updates_count_only_rows_found(sums: Connection) -> None:
    sums.insert_many("INSERT INTO sums (name, cents) VALUES (?, 1)", [(f"n{n:03}",) for n in range(0, MANY, 2)])
    assert sums.insert_many(MOVE, [(f"n{n:03}", n) for n in range(MANY)]) == MANY // 2 + 1
    assert stored(sums) == {f"n{n:03}": n + 1 for n in range(0, MANY, 2)}


def test_refused_row_leaves_no_row_of_its_batch(sums: Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        sums.insert_many(MERGE, [(f"n{n:03}", 5000 if n == 30 else n) for n in range(max(BULK_ROW_COUNTS))])
    assert stored(sums) == {}


def cursors(company: InProcess) -> dict[str, int]:
    return {row["consumer"]: row["position"] for row in company.rows("SELECT * FROM bus_cursors")}


def tell_of_mails(context: Context) -> None:
    for n in range(MANY):
        context.events.publish(MailSent(mail_id=f"m{n}", user_id="ann", business_date=date(2026, 3, 2)))


def test_consumers_skip_many_unrelated_events(tmp_path: Path) -> None:
    company = InProcess(tmp_path / "home")
    company.backend.write(SendMail(), OPERATOR, tell_of_mails)
    (head,) = company.rows("SELECT max(sequence) AS head FROM bus_log")
    assert cursors(company) == dict.fromkeys(("analytics", "billing", "mail", "tasks"), head["head"])


def test_consumer_does_not_skip_events_still_to_consume(tmp_path: Path) -> None:
    company = InProcess(tmp_path / "home")
    before = cursors(company)
    with company.backend.runtime.writing(OPERATOR) as context:
        context.events.publish(UserRegistered(user_id="u", username="new", email="new@example.com", role=Role.WORKER))
    company.backend.write(SendMail(), OPERATOR, tell_of_mails)
    assert {name: cursors(company)[name] for name in ("analytics", "billing", "tasks")} == {
        name: before[name] for name in ("analytics", "billing", "tasks")
    }
    company.backend.catch_up()
    assert company.rows("SELECT username FROM billing_accounts WHERE account_id = 'u'") == [{"username": "new"}]
    assert company.rows("SELECT balance_cents FROM analytics_people WHERE user_id = 'u'") == [{"balance_cents": 0}]


def test_consumer_does_not_skip_its_event_among_many(tmp_path: Path) -> None:
    company = InProcess(tmp_path / "home")

    def tell(context: Context) -> None:
        tell_of_mails(context)
        context.events.publish(UserRegistered(user_id="u", username="new", email="new@example.com", role=Role.WORKER))

    company.backend.write(SendMail(), OPERATOR, tell)
    company.backend.catch_up()
    assert company.rows("SELECT email FROM mail_receivers WHERE user_id = 'u'") == [{"email": "new@example.com"}]
    assert company.rows("SELECT username FROM billing_accounts WHERE account_id = 'u'") == [{"username": "new"}]

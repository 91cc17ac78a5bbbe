"""An invalid stored value is reported as damage by every command that reads it; no command crashes."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from popug_cli.app import LocalBackend
from popug_cli.kernel.errors import IntegrityViolation, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.messages.base import Message
from popug_cli.messages.billing import CorrectEntry, GetIncome, GetStatement
from popug_cli.messages.bus import ListEvents, RetryDeadLetters
from popug_cli.messages.company import BackUp, CheckHealth, ShowSettings
from popug_cli.messages.mail import ListMails, MailStatus, SendMail
from popug_cli.messages.tasks import ListTasks, StatusFilter
from tests.support.company import InProcess
from tests.support.ledger_company import company, original

__all__ = ["company", "original"]

DAY = date(2026, 3, 2)
AN_ENTRY = "(SELECT max(position) FROM billing_entries WHERE kind = 'fee')"
STATEMENT = GetStatement(username="kesha", from_date=DAY, to_date=date(2026, 3, 4))


def damage(company: InProcess, table: str, column: str, value: str, where: str = "true") -> None:
    """Run SQL as the shell can: without constraints."""
    company.backend.close()
    with closing(sqlite3.connect(company.root / "popug.db", isolation_level=None)) as file:
        file.execute("PRAGMA ignore_check_constraints=ON")
        file.execute("PRAGMA foreign_keys=OFF")
        triggers = file.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            file.execute(f"DROP TRIGGER {name}")
        assert file.execute(f"UPDATE OR IGNORE {table} SET {column} = {value} WHERE {where}").rowcount
        for _, trigger in triggers:
            file.execute(trigger)


def an_entry(company: InProcess) -> Message[Any]:
    (row,) = company.rows(f"SELECT entry_id FROM billing_entries WHERE position = {AN_ENTRY}")
    return CorrectEntry(entry_id=row["entry_id"], reason="it was wrong")


@pytest.mark.parametrize(
    ("place", "value", "asked"),
    [
        (("tasks_tasks", "status"), "'nul' || char(0)", ListTasks(status=StatusFilter.ALL)),
        (("tasks_tasks", "created_at"), "'yesterday'", ListTasks(status=StatusFilter.ALL)),
        (("billing_company", "first_day"), "'2026-13-45'", GetIncome(from_date=DAY, to_date=DAY)),
        (("billing_entries", "recorded_at"), "''", STATEMENT),
        (("billing_entries", "kind"), "'gift'", STATEMENT),
        (("mail_outbox", "kind"), "-1", ListMails()),
        (("mail_outbox", "business_date"), "0", SendMail()),
        (("mail_outbox", "sent_at"), "'x'", SendMail()),
        (("billing_entries", "employee_id"), "'../../x'", an_entry),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)
def test_invalid_value_is_reported_as_damage(
    company: InProcess, place: tuple[str, str], value: str, asked: Message[Any] | Callable[[InProcess], Message[Any]]
) -> None:
    message = asked(company) if callable(asked) else asked
    damage(company, *place, value)
    with pytest.raises(IntegrityViolation, match="its data is not valid") as refused:
        company.act("boss", message)
    assert refused.value.code == "corrupt_database"
    assert not company.backend.perform(CheckHealth()).ok


def test_damaged_parked_event_fails_no_other_command(company: InProcess) -> None:
    company.act("boss", ListEvents())
    with closing(sqlite3.connect(company.root / "popug.db")) as file, file:
        file.execute(
            "INSERT INTO bus_set_aside (consumer, sequence, subject, state, attempts, error, since)"
            " VALUES ('nobody', 1, 'x', 'dead', 1, 'x', 'x')"
        )
    assert company.act("boss", ListTasks(status=StatusFilter.ALL)).total == 6
    with pytest.raises(IntegrityViolation, match="nobody"):
        company.act("boss", RetryDeadLetters())


@pytest.mark.parametrize("column", ["message_id", "payload", "queued_at"])
def test_damaged_mail_fails_with_an_error(company: InProcess, column: str) -> None:
    (mails,) = company.rows("SELECT count(*) AS count FROM mail_outbox")
    damage(company, "mail_outbox", column, "'nul' || char(0)", "rowid = (SELECT min(rowid) FROM mail_outbox)")
    sent = company.act("boss", SendMail())
    assert (sent.sent, sent.failed, sent.queued) == (mails["count"] - 1, 1, 0)
    (failed,) = company.act("boss", ListMails(status=MailStatus.FAILED)).mails
    assert failed.last_error


@pytest.mark.parametrize("version", ["", "x", "00099", "-001"])
def test_invalid_version_is_damage_and_left_alone(company: InProcess, version: str) -> None:
    damage(company, "alembic_version", "version_num", f"'{version}'")
    before = (company.root / "popug.db").read_bytes()
    with pytest.raises(IntegrityViolation, match="its recorded version is") as refused:
        company.act("boss", ListTasks())
    assert refused.value.code == "corrupt_database"
    assert (company.root / "popug.db").read_bytes() == before


@pytest.mark.parametrize(
    ("statement", "asked"),
    [
        ("DROP TABLE tasks_tasks", ListTasks()),
        ("DROP TABLE bus_cursors", ListMails()),
        ("ALTER TABLE billing_entries RENAME COLUMN kind TO sort", STATEMENT),
        ("DELETE FROM alembic_version", ListEvents()),
    ],
)
def test_table_or_column_that_is_gone_is_damage(company: InProcess, statement: str, asked: Message[Any]) -> None:
    company.backend.close()
    with closing(sqlite3.connect(company.root / "popug.db")) as file, file:
        file.execute(statement)
    with pytest.raises(IntegrityViolation, match=r"no such (table|column)|already exists") as refused:
        company.act("boss", asked)
    assert refused.value.code == "corrupt_database"


def test_home_with_an_unknown_zone_needs_newer_zone_data(company: InProcess, tmp_path: Path) -> None:
    damage(company, "storage_home", "time_zone", "'Mars/Phobos'")
    shutil.copytree(company.root, tmp_path / "copy")
    messages: list[Message[Any]] = [CheckHealth(), ShowSettings(), BackUp(path=str(tmp_path / "backup"))]
    for message in messages:
        with pytest.raises(Unavailable, match="Mars/Phobos") as refused:
            LocalBackend(Home(tmp_path / "copy")).perform(message)
        assert refused.value.code == "unknown_time_zone"
        assert "tzdata" in refused.value.hint

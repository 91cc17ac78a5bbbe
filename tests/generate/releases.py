"""Homes of earlier releases: ``python -m tests.generate.releases --make`` keeps one of the present release.

A home is kept as the text of its database (``tests/fixtures/home-NNNN.sql``, NNNN its last migration) and the answers
of that release in it (``home-NNNN.json``). An existing file is never written again: it is the state that the release
left on a user's disk.
"""

import os
import sqlite3
import sys
from contextlib import closing, suppress
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from popug_cli.app import LocalBackend
from popug_cli.kernel.errors import NotAuthenticated
from popug_cli.kernel.home import Home
from popug_cli.messages.analytics import GetAnalytics
from popug_cli.messages.base import Message, Role
from popug_cli.messages.billing import CloseDay, CorrectEntry, GetBalance, GetIncome, GetStatement
from popug_cli.messages.identity import DeactivateUser, IssueToken, LogIn
from popug_cli.messages.mail import ListMails
from popug_cli.messages.principal import OPERATOR, Principal
from popug_cli.messages.scheduler import RunDue
from popug_cli.messages.tasks import ImportTasks, ListTasks, NewTask, StatusFilter
from popug_cli.storage.migrate import NEWEST
from tests.support.company import InProcess
from tests.support.ledger_company import company_with_a_past

FIXTURES = Path(__file__).parents[1] / "fixtures"
PEOPLE = ("boss", "kesha", "gosha", "ara.b-c_d", "nobody.here")
FIRST, LAST_CLOSED, LAST = date(2026, 3, 1), date(2026, 3, 4), date(2026, 3, 5)
NOT_IN_SO_SMALL_A_HOME = {
    *("alembic_version", "sqlite_sequence", "billing_segments", "bus_replies", "bus_hooks", "bus_hook_letters"),
}


def kept_releases() -> list[str]:
    """Return the releases with a kept home, by their last migration."""
    return sorted(file.stem.removeprefix("home-") for file in FIXTURES.glob("home-*.sql"))


def unpack(release: str, home: Home) -> None:
    """Put the home of a release on disk, without keys, as a restore would."""
    home.make()
    home.database.touch(mode=0o600)
    with closing(sqlite3.connect(home.database)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.executescript((FIXTURES / f"home-{release}.sql").read_text(encoding="utf-8"))


def recorded_answers(release: str) -> dict[str, Any]:
    """Return the answers of the program of a release in its home."""
    answers: dict[str, Any] = msgspec.json.decode((FIXTURES / f"home-{release}.json").read_bytes())
    return answers


def answers(backend: LocalBackend, boss: Principal) -> dict[str, Any]:
    """Return the answers of a home to the questions that every release must answer alike."""
    messages: dict[str, Message[Any]] = {
        "income": GetIncome(from_date=FIRST, to_date=LAST),
        "analytics": GetAnalytics(day=LAST),
        "tasks": ListTasks(status=StatusFilter.ALL),
        "mails": ListMails(),
    }
    for name in PEOPLE:
        messages[f"balance of {name}"] = GetBalance(username=name, as_of_date=LAST_CLOSED)
        messages[f"statement of {name}"] = GetStatement(username=name, from_date=FIRST, to_date=LAST)
    replies = {name: backend.perform_as(boss, message) for name, message in messages.items()}
    return {**msgspec.to_builtins(replies), **_history(backend, boss)}


def without_news(now: Any, then: Any) -> Any:
    """Return a present answer without the fields that did not exist then."""
    if isinstance(now, dict) and isinstance(then, dict):
        return {key: without_news(value, then[key]) for key, value in now.items() if key in then}
    if isinstance(now, list) and isinstance(then, list) and len(now) == len(then):
        return [without_news(new, old) for new, old in zip(now, then, strict=True)]
    return now


def boss_of(backend: LocalBackend) -> Principal:
    """Return the admin of an unpacked home."""
    with backend.runtime.reading(Principal("test")) as context:
        statement = "SELECT user_id FROM identity_users WHERE username = 'boss'"
        return Principal("boss", context.connection.scalar(statement), Role.ADMIN)


def _history(backend: LocalBackend, boss: Principal) -> dict[str, Any]:
    with backend.runtime.reading(boss) as context:
        envelopes = context.connection.column("SELECT envelope FROM bus_log ORDER BY sequence")
        return {"head": context.log.head_hash(), "log": envelopes}


def eventful(root: Path) -> InProcess:
    """Make a company with rows in every table."""
    company = company_with_a_past(root)
    company.hire("nobody.here")
    company.act("boss", ImportTasks(lines=[NewTask(title="Imported", jira_id="POPUG-7")]))
    rows = company.rows("SELECT entry_id FROM billing_entries WHERE kind = 'fee' ORDER BY position LIMIT 1")
    company.act("boss", CorrectEntry(entry_id=rows[0]["entry_id"], reason="never agreed"))
    company.act("boss", IssueToken(username="kesha", ttl_seconds=86_400))
    company.act("boss", DeactivateUser(username="nobody.here"))
    with suppress(NotAuthenticated):
        company.backend.perform(LogIn(username="boss", password="a wrong password"))
    _append_what_nobody_can_take(company)
    company.act("boss", CloseDay())
    company.backend.perform(RunDue())
    assert [table for table in tables(company) if not company.rows(f"SELECT 1 FROM {table} LIMIT 1")] == []
    return company


def tables(company: InProcess) -> list[str]:
    """Return the tables of every module."""
    rows = company.rows("SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE '%!_%' ESCAPE '!'")
    return [row["name"] for row in rows if row["name"] not in NOT_IN_SO_SMALL_A_HOME]


def _append_what_nobody_can_take(company: InProcess) -> None:
    """Append an event from outside whose data does not fit its schema: it becomes a dead letter at once."""
    envelope = {
        **{"specversion": "1.0", "id": "01950000-0000-7000-8000-000000000001", "source": "/popug/tasks"},
        **{"type": "popug.tasks.task_created.v2", "subject": "odd", "time": "2026-03-04T10:00:00Z", "data": {"odd": 1}},
    }
    with company.backend.runtime.writing(OPERATOR) as context:
        statement = "INSERT INTO bus_log (envelope) VALUES (?)"
        context.connection.execute(statement, msgspec.json.encode(envelope).decode())
    company.backend.catch_up()


def make() -> Path:
    """Keep a home of the present release; raise ``FileExistsError`` if one is kept already."""
    os.environ |= {"POPUG_MAIL_SUMMARY": "true"}
    FIXTURES.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder:
        company = eventful(Path(folder) / "home")
        recorded = answers(company.backend, company.people["boss"])
        company.backend.close()
        with closing(sqlite3.connect(company.root / "popug.db")) as database:
            dump = "\n".join(database.iterdump()) + "\n"
    with (FIXTURES / f"home-{NEWEST}.sql").open("x", encoding="utf-8") as file:
        file.write(dump)
    (FIXTURES / f"home-{NEWEST}.json").write_bytes(msgspec.json.format(msgspec.json.encode(recorded), indent=1))
    return FIXTURES / f"home-{NEWEST}.sql"


if __name__ == "__main__":
    if sys.argv[1:] != ["--make"]:
        sys.exit(__doc__)
    sys.stdout.write(f"{make()}\n")

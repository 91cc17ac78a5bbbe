"""Rows appended to the log from outside: the status or the doctor reports each, and no other command fails."""

import json
import sqlite3
from contextlib import closing
from datetime import date
from typing import Any

import pytest

from popug_cli.bus import unlinked_events
from popug_cli.kernel.errors import IntegrityViolation, InvalidInput
from popug_cli.messages.base import Message
from popug_cli.messages.billing import CloseDay, GetBalance, GetIncome
from popug_cli.messages.bus import DropDeadLetter, ListDeadLetters, ListEvents, ReplayEvents, ShowBusStatus, TraceTask
from popug_cli.messages.company import CheckHealth, ExplainBalance
from popug_cli.messages.tasks import AddTask, GetTask, ListTasks
from popug_cli.messages.today import ShowToday
from tests.support.company import InProcess
from tests.support.ledger_company import company, original

__all__ = ["company", "original"]

COMPLETED = "popug.tasks.task_completed.v1"
MAX_POSITION = 2**63 - 1
USUAL_ID = "0199a0b0-1111-7222-8333-000000000001"
DONE = {"task_id": "t", "assignee_id": "a", "completed_at": "2026-03-04T12:00:00Z"}
NOTHING_TO_DO_WITH_IT: tuple[Message[Any], ...] = (
    ListTasks(),
    GetTask(number=1),
    GetBalance(username="kesha"),
    GetIncome(from_date=date(2026, 3, 1), to_date=date(2026, 3, 4)),
    ExplainBalance(username="gosha"),
    ListEvents(),
    ListDeadLetters(),
    TraceTask(number=1),
    ReplayEvents(verify=True),
    ShowToday(),
    CloseDay(day=date(2026, 3, 4), dry_run=True),
)


def envelope(type_: str = COMPLETED, data: Any = None, **changes: Any) -> dict[str, Any]:
    whole = {
        "specversion": "1.0",
        "id": USUAL_ID,
        "source": "/popug/elsewhere",
        "type": type_,
        "subject": "somewhere",
        "time": "2026-03-04T12:00:00Z",
        "data": {} if data is None else data,
    }
    return {name: value for name, value in (whole | changes).items() if value is not ...}


def append(company: InProcess, row: dict[str, Any] | bytes, sequence: int | None = None) -> int:
    content = row if isinstance(row, bytes) else json.dumps(row).encode()
    with closing(sqlite3.connect(company.root / "popug.db")) as log, log:
        statement = "INSERT INTO bus_log (sequence, envelope) VALUES (?, CAST(? AS TEXT)) RETURNING sequence"
        (position,) = log.execute(statement, (sequence, content)).fetchone()
    return int(position)


def named(company: InProcess) -> str:
    """Return the problems that status and doctor report."""
    status, health = company.act("boss", ShowBusStatus()), company.backend.perform(CheckHealth())
    dead = [f"{letter.consumer} {letter.error}" for letter in company.act("boss", ListDeadLetters()).dead]
    unknown = [f"unknown {event_type.type}" for event_type in status.unknown]
    return "\n".join([*status.problems, *unknown, *dead, *(check.detail for check in health.checks)])


ODD: dict[str, tuple[dict[str, Any] | bytes, str]] = {
    "an unknown type": (envelope("popug.tasks.task_renamed.v1"), "unknown popug.tasks.task_renamed.v1"),
    "a newer version that no consumer needs": (
        envelope("popug.tasks.tasks_shuffled.v3"),
        "unknown popug.tasks.tasks_shuffled.v3",
    ),
    "a version that is not a number": (envelope("popug.tasks.task_created.v0"), "unknown popug.tasks.task_created.v0"),
    "no type": (envelope(type=...), "unknown none"),
    "half a surrogate pair as type": (envelope(type="\ud800"), "unknown \\xed"),
    "data of an event that nobody consumes": (envelope("popug.mail.mail_sent.v1"), "missing required field `mail_id`"),
    "no data at all": (envelope("popug.tasks.tasks_shuffled.v1", []), "Expected `object`, got `array`"),
    "no time": (envelope(data=DONE, time=...), "required field `time`"),
    "a leap second": (
        envelope(data=DONE, time="2026-06-30T23:59:60Z"),
        "not a valid RFC 3339 instant: '2026-06-30T23:59:60Z'",
    ),
    "a time without a zone": (
        envelope(data=DONE, time="2026-06-30T23:59:59"),
        "not a valid RFC 3339 instant: '2026-06-30T23:59:59'",
    ),
    "a time before the calendar": (
        envelope(data=DONE, time="0001-01-01T00:00:00+23:00"),
        "not a valid RFC 3339 instant: '0001",
    ),
    "a number as id": (envelope(id=5), "Expected `str`, got `int`"),
    "no id": (envelope(data=DONE, id=...), "required field `id`"),
    "an object as subject": (envelope(subject={"a": 1}), "Expected `str`, got `object`"),
    "a NUL in its subject": (
        envelope("popug.tasks.tasks_shuffled.v1", subject="a\x00b"),
        "required field `shuffle_id`",
    ),
    "a megabyte": (envelope(subject="s" * 10**6, data={"x": "y" * 10**6}), "required field `task_id`"),
    "bytes that are no text": (
        json.dumps(envelope()).encode().replace(b"/elsewhere", b"/\xff\xfe"),
        "JSON is malformed",
    ),
}


def test_odd_rows_are_reported_and_fail_no_other_command(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unlinked_events, "MAX_SHOWN_PROBLEMS", len(ODD))
    for number, (row, _) in enumerate(ODD.values()):
        is_usual = isinstance(row, dict) and row.get("id") == USUAL_ID
        append(company, {**row, "id": f"{USUAL_ID}-{number}"} if isinstance(row, dict) and is_usual else row)
    for message in NOTHING_TO_DO_WITH_IT:
        company.act("boss", message)
    assert company.act("boss", AddTask(title="Life goes on")).number == 7
    names = named(company)
    assert [case for case, (_, sentence) in ODD.items() if sentence not in names] == []
    assert company.backend.perform(CheckHealth()).ok


def completion(company: InProcess, **changes: str) -> dict[str, str]:
    task = company.rows("SELECT task_id, assignee_id FROM tasks_tasks WHERE number = 2")[0]
    return task | {"completed_at": "2026-03-04T12:00:00Z"} | changes


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"task_id": "ghost"}, "names the task ghost, which no event has created"),
        ({"assignee_id": "nobody"}, "names nobody, whom no event has registered"),
        ({}, "has the subject somewhere, not"),
    ],
)
def test_event_about_unknown_user_or_task_is_reported(
    company: InProcess, changes: dict[str, str], sentence: str
) -> None:
    data = completion(company, **changes)
    subject = data["task_id"] if changes else "somewhere"
    position = append(company, envelope(data=data, subject=subject))
    assert f"The event at {position} {sentence}" in named(company)


def test_event_at_end_of_calendar_is_a_dead_letter(company: InProcess) -> None:
    data = completion(company)
    append(company, envelope(data=data, subject=data["task_id"], time="9999-12-31T23:59:59Z"))
    company.act("boss", ListTasks())
    assert "billing OverflowError" in named(company)


@pytest.mark.parametrize("reason", ["", " \n\t", "\u200b\u00ad", "\x1b", "x" * 501])
def test_drop_refused_without_a_visible_reason(company: InProcess, reason: str) -> None:
    append(company, envelope())
    letter = company.act("boss", ListDeadLetters()).dead[0]
    with pytest.raises(InvalidInput, match="A reason has"):
        company.act("boss", DropDeadLetter(dead_id=letter.dead_id, reason=reason))
    assert letter in company.act("boss", ListDeadLetters()).dead


def test_only_a_few_odd_events_are_reported(company: InProcess) -> None:
    for number in range(9):
        append(company, envelope("popug.mail.mail_sent.v1", id=f"from-outside-{number}"))
    problems = company.act("boss", ShowBusStatus()).problems
    assert len(problems) == 6
    assert problems[-1] == "There are more events like these."


@pytest.mark.parametrize(
    ("sequences", "sentence"),
    [
        ((-5, 0), "2 events lie before the beginning of the log, the first at -5; no consumer reads there."),
        ((2**62,), "The log has a hole at"),
        ((-5, None), "1 event lies before the beginning of the log, the first at -5; no consumer reads there."),
    ],
)
def test_row_at_an_odd_position_is_reported(
    company: InProcess, sequences: tuple[int | None, ...], sentence: str
) -> None:
    for number, sequence in enumerate(sequences):
        append(company, envelope(id=f"from-outside-{number}"), sequence)
    for message in NOTHING_TO_DO_WITH_IT:
        company.act("boss", message)
    assert company.act("boss", AddTask(title="Life goes on")).number == 7
    assert sentence in named(company)
    assert not company.backend.perform(CheckHealth()).ok


def test_commands_refused_and_queries_work_at_last_position(company: InProcess) -> None:
    append(company, envelope("popug.tasks.task_renamed.v1"), MAX_POSITION)
    with pytest.raises(IntegrityViolation, match="at or near the last possible position"):
        company.act("boss", AddTask(title="One too many"))
    for message in NOTHING_TO_DO_WITH_IT:
        company.act("boss", message)
    assert f"{MAX_POSITION:,} positions are missing" in named(company)


def test_version_one_of_task_created_keeps_any_title(company: InProcess) -> None:
    """Only a jira id in brackets before a title was one; events with an invalid number are dead letters."""
    titles = ["[POPUG-7] Feed", "[popug-7]", "[POPUG-7]   ", "", " [A-1] x\x00\n[b]", "[P-1]" * 1000]
    for number, title in enumerate(titles, start=100):
        data = {"task_id": f"old-{number}", "number": number, "title": title, "creator_id": "c", "assignee_id": "a"}
        append(company, envelope("popug.tasks.task_created.v1", data, subject=data["task_id"], id=f"v1-{number}"))
    for number in (0, -1, 2**63, 10**25):
        data = {"task_id": f"o{number}", "number": number, "title": "x", "creator_id": "c", "assignee_id": "a"}
        append(company, envelope("popug.tasks.task_created.v1", data, subject=data["task_id"], id=f"v1-{number}"))
    company.act("boss", ListTasks())
    known = company.rows("SELECT title FROM billing_tasks WHERE number >= 100 ORDER BY number")
    assert [row["title"] for row in known] == ["Feed", *titles[1:5], "[P-1]" * 999]
    dead = company.act("boss", ListDeadLetters()).dead
    assert {letter.event["id"] for letter in dead} == {f"v1-{n}" for n in (0, -1, 2**63, 10**25)}

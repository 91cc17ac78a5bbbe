"""Statements whose answer is small do not read all events, tasks or entries: SQLite's plans, and equal answers."""

from typing import Any

import pytest

from popug_cli.audit.cross_module_checks import CROSS_MODULE_INVARIANTS
from popug_cli.bus import status
from popug_cli.bus.context import Context
from popug_cli.bus.log import FREQUENT_TYPES
from popug_cli.messages.base import EVENTS, Event
from popug_cli.messages.billing import EntryPosted, PayoutMade
from popug_cli.messages.identity import UserRegistered
from popug_cli.messages.mail import MailFailed, MailSent
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import TaskAssigned, TaskCreated, TasksShuffled
from popug_cli.messages.upcasters import versions
from popug_cli.tasks import assignments
from tests.support.company import InProcess
from tests.support.ledger_company import company_with_a_past

KINDS: list[tuple[type[Event], ...]] = [
    (),
    (EntryPosted,),
    (PayoutMade, MailSent, MailFailed),
    (EntryPosted, PayoutMade, MailSent, MailFailed),
    (UserRegistered,),
    (TaskCreated, TaskAssigned),
    (TasksShuffled,),
]


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    return company_with_a_past(tmp_path_factory.mktemp("company"))


def plan(context: Context, statement: str, *values: Any) -> str:
    return "\n".join(row[3] for row in context.connection.select(f"EXPLAIN QUERY PLAN {statement}", *values))


def selected(context: Context, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...]]]:
    """Return a list that collects the statements that ``select`` runs."""
    seen: list[tuple[str, tuple[Any, ...]]] = []
    select = type(context.connection).select

    def collect(connection: Any, statement: str, *values: Any, **parameters: Any) -> list[Any]:
        seen.append((statement, values))
        return select(connection, statement, *values, **parameters)

    monkeypatch.setattr(type(context.connection), "select", collect)
    return seen


@pytest.mark.parametrize("kinds", KINDS, ids=lambda kinds: "-".join(kind.NAME for kind in kinds) or "all")
def test_by_subject_returns_what_a_filter_leaves(company: InProcess, kinds: tuple[type[Event], ...]) -> None:
    with company.backend.runtime.reading(OPERATOR) as context:
        subjects = context.connection.column("SELECT DISTINCT subject FROM bus_log")
        tasks = context.connection.column("SELECT task_id FROM tasks_tasks")
        for subject in subjects:
            everything = context.log.by_subject(subject)
            expected = [event for event in everything if not kinds or isinstance(event.data, kinds)]
            assert context.log.by_subject(subject, *kinds) == expected
            for task_id in tasks[:3]:
                of_task = [event for event in expected if getattr(event.data, "task_id", None) == task_id]
                assert context.log.by_subject(subject, *kinds, task_id=task_id) == of_task


def test_rare_events_of_a_subject_come_from_the_index(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    with company.backend.runtime.reading(OPERATOR) as context:
        seen = selected(context, monkeypatch)
        context.log.by_subject("x", PayoutMade, MailSent, MailFailed)
        context.log.by_subject("x", UserRegistered)
        monkeypatch.undo()
        assert len(seen) == 2
        for statement, values in seen:
            assert "bus_log_rare (subject=? AND type=?)" in plan(context, statement, *values)


def test_status_scans_no_envelope(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    with company.backend.runtime.reading(OPERATOR) as context:
        seen = selected(context, monkeypatch)
        status.bus_status(context, company.backend.consumers)
        monkeypatch.undo()
        plans = [plan(context, statement, *values) for statement, values in seen if "bus_log" in statement]
    assert len(plans) >= 6
    assert [each for each in plans if "SCAN bus_log" in each and "INDEX" not in each] == []
    assert [each for each in plans if "SCAN log" in each] == []


def test_open_tasks_of_others_are_not_read(company: InProcess) -> None:
    statement = f"SELECT task.number {assignments._FROM_UNASSIGNABLE_OPEN_TASKS}"
    with company.backend.runtime.reading(OPERATOR) as context:
        assert "SEARCH task USING INDEX tasks_tasks_open (<expr>=?)" in plan(context, statement).replace(
            "COVERING ", ""
        )


def test_user_copies_read_the_index_of_rare_events(company: InProcess) -> None:
    (copies,) = [each for each in CROSS_MODULE_INVARIANTS if each.name == "user_copies_agree"]
    with company.backend.runtime.reading(OPERATOR) as context:
        steps = plan(context, copies.select_violations)
    assert steps.count("bus_log_rare (subject=? AND type>? AND type<?)") == 3
    assert "bus_log_subject" not in steps


def test_frequent_types_are_newest_versions() -> None:
    assert all(EVENTS[type_] is versions(EVENTS[type_])[-1] for type_ in FREQUENT_TYPES)

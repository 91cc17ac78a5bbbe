"""The answers that the gateway merges: events by time, dead letters, statuses, traces."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from popug_cli.app.handlers import service_of
from popug_cli.cluster.gateway.composed import ASKING_SERVICES, COMPOSED, OF_ANY_SERVICE
from popug_cli.cluster.gateway.merging import (
    cursor_of,
    merge_dead_letters,
    merge_events,
    merge_statuses,
    merge_traces,
    text_of,
)
from popug_cli.kernel.errors import InvalidInput
from popug_cli.messages.base import Access, declarations
from popug_cli.messages.bus import BusStatus, ConsumerStatus, DeadLetter, DeadLetters, TraceLine, UnknownType
from popug_cli.messages.services import SERVICES

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
# In each log, times of events; a clock that is set back may make one earlier than the one before it.
LOGS = st.fixed_dictionaries({}, optional={name: st.lists(st.integers(0, 20), max_size=12) for name in SERVICES})


def event(service: str, sequence: int, minute: int, event_id: str = "") -> dict[str, Any]:
    time = f"2026-03-02T12:{minute:02}:00Z"
    return {"id": event_id or f"{service}-{sequence}", "sequence": str(sequence), "time": time}


def pages_of(logs: dict[str, list[int]], cursor: dict[str, int], limit: int) -> dict[str, list[dict[str, Any]]]:
    """Return what each service answers: its first events after the cursor."""
    return {
        service: [event(service, number, minute) for number, minute in enumerate(minutes, 1)][cursor[service] :][:limit]
        for service, minutes in logs.items()
    }


@settings(deadline=None)
@given(LOGS, st.integers(1, 9))
def test_pages_together_have_each_event_once(logs: dict[str, list[int]], limit: int) -> None:
    read: list[dict[str, Any]] = []
    cursor = cursor_of(None)
    while (page := merge_events(pages_of(logs, cursor, limit), cursor, limit)).events:
        assert len(page.events) <= limit
        read += page.events
        cursor = cursor_of(page.cursor)
    assert len(read) == sum(map(len, logs.values()))
    for service, minutes in logs.items():
        of_service = [int(each["sequence"]) for each in read if each["service"] == service]
        assert of_service == [*range(1, len(minutes) + 1)]


@settings(deadline=None)
@given(LOGS, st.integers(1, 9))
def test_pages_are_by_time_if_the_logs_are(logs: dict[str, list[int]], limit: int) -> None:
    ordered = {service: sorted(minutes) for service, minutes in logs.items()}
    cursor, times = cursor_of(None), list[str]()
    while (page := merge_events(pages_of(ordered, cursor, limit), cursor, limit)).events:
        times += [each["time"] for each in page.events]
        cursor = cursor_of(page.cursor)
    assert times == sorted(times)


def test_last_events_end_at_the_end_of_all_logs() -> None:
    pages = {
        "tasks": [event("tasks", 4, 1), event("tasks", 9, 5)],
        "billing": [event("billing", 7, 2), event("billing", 8, 3)],
    }
    page = merge_events(pages, cursor_of(None), 100, last=2)
    assert [each["id"] for each in page.events] == ["billing-8", "tasks-9"]
    assert cursor_of(page.cursor) == {"identity": 0, "tasks": 9, "billing": 8, "analytics": 0, "mail": 0}


def test_event_of_several_logs_is_shown_once() -> None:
    pages = {name: [event(name, 1, 1, "old"), event(name, 2, 2)] for name in ("tasks", "mail")}
    page = merge_events(pages, cursor_of(None), 100)
    assert [each["id"] for each in page.events] == ["old", "tasks-2", "mail-2"]


def test_missing_service_keeps_its_place_in_the_cursor() -> None:
    cursor = cursor_of("billing=5")
    page = merge_events({"tasks": [event("tasks", 3, 1)]}, cursor, 10)
    assert cursor_of(page.cursor) == cursor | {"tasks": 3}


@pytest.mark.parametrize("text", ["x", "payroll=3", "tasks=", "tasks=-1", "tasks=²", f"tasks={10**18}", "tasks=1,,"])
def test_cursor_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        cursor_of(text)


@given(st.fixed_dictionaries({name: st.integers(0, 10**18 - 1) for name in SERVICES}))
def test_cursor_survives_its_text(cursor: dict[str, int]) -> None:
    assert cursor_of(text_of(cursor)) == cursor


def letter(dead_id: int, consumer: str, minute: int) -> DeadLetter:
    of = event(consumer, dead_id, minute)
    return DeadLetter(
        dead_id=dead_id, consumer=consumer, event=of, state="dead", error="", attempts=5, waiting=0, amount_cents=0,
        id=str(dead_id),
    )  # fmt: skip


def test_dead_letters_are_named_by_service_oldest_first() -> None:
    parts = {
        "billing": DeadLetters([letter(3, "billing", 5), letter(4, "tokens", 9)]),
        "mail": DeadLetters([letter(3, "mail", 2)]),
    }
    assert [each.id for each in merge_dead_letters(parts).dead] == ["mail:3", "billing:3", "billing:4"]
    assert {each.dead_id for each in merge_dead_letters(parts).dead} == {3, 4}


def status(*consumers: str, end: int, unknown: int) -> BusStatus:
    return BusStatus(
        last_sequence=end,
        consumers=[ConsumerStatus(name, end, 0, 0, 0) for name in consumers],
        unknown=[UnknownType("popug.x.y.v1", unknown)],
        problems=["broken"],
    )


def test_statuses_name_their_service() -> None:
    parts = {"tasks": status("tasks", "tokens", end=5, unknown=1), "mail": status("mail", "tokens", end=9, unknown=2)}
    merged = merge_statuses(parts)
    assert [each.consumer for each in merged.consumers] == ["tasks", "tasks:tokens", "mail", "mail:tokens"]
    assert merged.problems == ["tasks: broken", "mail: broken"]
    assert (merged.last_sequence, merged.unknown) == (9, [UnknownType("popug.x.y.v1", 2)])
    assert merged.services == parts


def line(event_id: str, minutes: int, service: str, cause: str | None = None, **consumers: str) -> TraceLine:
    return TraceLine(
        sequence=minutes, at=NOON + timedelta(minutes=minutes), event=event_id, actor="ada", event_id=event_id,
        causationid=cause, correlationid=None, detail=service, consumers=consumers, service=service,
    )  # fmt: skip


def test_trace_has_each_event_with_the_consumers_of_all() -> None:
    parts = {
        "billing": [
            line("created", 1, "tasks", billing="done", tokens="done"),
            line("priced", 2, "billing", "created"),
        ],
        "tasks": [line("created", 1, "tasks"), line("priced", 2, "billing", "created", tasks="done")],
        "analytics": [line("created", 1, "tasks", analytics="pending")],
    }
    created, priced = merge_traces(parts)
    assert created.consumers == {"billing": "done", "analytics": "pending"}
    assert priced.consumers == {"tasks": "done"}


def test_effect_stands_after_its_cause_whatever_the_clocks_say() -> None:
    parts = {
        "tasks": [line("assigned", 5, "tasks")],
        "billing": [line("entry", 3, "billing", "assigned"), line("payout", 4, "billing", "entry")],
    }
    assert [each.event_id for each in merge_traces(parts)] == ["assigned", "entry", "payout"]


def test_events_of_one_service_stay_in_order_of_its_log() -> None:
    same = {"at": NOON}
    entries = [replace(line(f"entry {n}", n, "billing", cause), **same) for n, cause in ((1, "b"), (2, "c"), (3, "a"))]
    parts = {"tasks": [line("a", -3, "tasks"), line("b", -2, "tasks", "a"), line("c", -1, "tasks", "b")], "x": entries}
    assert [each.event_id for each in merge_traces(parts)] == ["a", "b", "c", "entry 1", "entry 2", "entry 3"]


def test_causes_in_a_circle_end() -> None:
    parts = {"tasks": [line("a", 1, "tasks", "b"), line("b", 2, "tasks", "a")]}
    assert {each.event_id for each in merge_traces(parts)} == {"a", "b"}


def test_gateway_performs_each_message_of_users() -> None:
    for declaration in declarations():
        kind = declaration.message
        ways = [kind in COMPOSED, kind in OF_ANY_SERVICE, kind in ASKING_SERVICES, bool(service_of(declaration))]
        expected = declaration.access is not Access.OPERATOR
        assert sum(ways) == expected or not expected, declaration.name

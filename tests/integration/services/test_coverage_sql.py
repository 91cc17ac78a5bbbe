"""The coverage of a service, read from the tables of streams, cursors and events."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from popug_cli.bus import parked_events, stream_store
from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Runtime
from popug_cli.bus.log import type_condition
from popug_cli.bus.service.coverage import (
    SELECT_FIRST_PENDING,
    MissingEvent,
    includes_of,
    missing_events,
    own_position,
    received_logs,
    uncovered,
)
from popug_cli.bus.stream_store import Stream
from popug_cli.kernel.positions import Position
from popug_cli.messages.identity import UserDeactivated, UserRegistered
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import TaskCompleted
from tests.support.bus_fixture import BusFixture, registration
from tests.support.postgres.server import PostgresServer

LOGS = {name: f"0198f3c2-0000-7000-8000-00000000000{digit}" for digit, name in enumerate(("identity", "tasks", "x"))}
CONSUMER = Consumer("billing", (UserRegistered, UserDeactivated, TaskCompleted), lambda events, context: None)
FIRST = 100  # the position of the first event that identity sends


@pytest.fixture
def billing(tmp_path: Path) -> BusFixture:
    toy = BusFixture(tmp_path / "home")
    found(toy.runtime)
    return toy


def found(runtime: Runtime) -> None:
    """Make the service billing, which has received three events of identity and one that it does not consume."""
    with runtime.writing(OPERATOR) as context:
        stream_store.create_service(context, "billing", LOGS["x"], {name: LOGS[name] for name in ("identity", "tasks")})
    receive(runtime, "identity", *(f"popug.identity.{name}" for name in ("user_registered.v1",) * 3))
    receive(runtime, "identity", "popug.identity.token_issued.v1", first=FIRST + 3)


def receive(runtime: Runtime, origin: str, *types: str, first: int = FIRST) -> None:
    """Append received events of an origin, and note the last one."""
    with runtime.writing(OPERATOR) as context:
        events = [(first + index, envelope_of(first + index, type_)) for index, type_ in enumerate(types)]
        context.events.append_received(origin, events)
        state, offset = stream_store.load(context.connection, origin)
        last = events[-1][0]
        stream_store.save(context.connection, origin, Stream(changed(state, last=last, last_id=f"e{last}"), offset))


def envelope_of(position: int, type_: str) -> str:
    return (
        f'{{"id":"e{position}","source":"/popug/identity","type":"{type_}","subject":"u","actor":"ada",'
        f'"time":"2026-03-02T09:00:00.000000Z","data":{{}},"sequence":"{position}","specversion":"1.0"}}'
    )


def consumed(runtime: Runtime, origin: str = "identity") -> int:
    with runtime.reading(OPERATOR) as context:
        return received_logs(context, "billing", (CONSUMER,))[origin].consumed


def set_cursor(runtime: Runtime, sequence: int) -> None:
    with runtime.writing(OPERATOR) as context:
        context.connection.execute("DELETE FROM bus_cursors")
        context.connection.execute("INSERT INTO bus_cursors (consumer, position) VALUES ('billing', ?)", sequence)


def head(runtime: Runtime) -> int:
    with runtime.reading(OPERATOR) as context:
        return context.position


def check_cursor_and_watermark(runtime: Runtime) -> None:
    start = head(runtime) - 4
    for sequence, expected in ((start, FIRST - 1), (start + 1, FIRST), (start + 2, FIRST + 1), (start + 3, FIRST + 3)):
        set_cursor(runtime, sequence)
        assert consumed(runtime) == expected
    with runtime.writing(OPERATOR) as context:
        state, offset = stream_store.load(context.connection, "identity")
        stream_store.save(context.connection, "identity", Stream(changed(state, watermark=FIRST + 50), offset))
    assert consumed(runtime) == FIRST + 50


def test_consumed_position_is_before_the_first_pending_event(billing: BusFixture) -> None:
    check_cursor_and_watermark(billing.runtime)


def test_consumed_position_on_postgresql(billing: BusFixture, postgres: PostgresServer) -> None:
    from popug_cli.storage.postgres import schema
    from popug_cli.storage.postgres.driver import PostgresDatabase

    name = postgres.create_database()
    schema.migrate(postgres.url(name))
    with closing(PostgresDatabase(postgres.url(name))) as database:
        runtime = replace(billing.runtime, database=database)
        found(runtime)
        check_cursor_and_watermark(runtime)
        with runtime.reading(OPERATOR) as context:
            seen = {"identity": Position(FIRST, LOGS["identity"][-8:])}
            assert missing_events(context, received_logs(context, "billing", (CONSUMER,)), seen) == []
            assert own_position(context, "billing") == Position(0, LOGS["x"][-8:])
    postgres.drop_database(name)


def test_unknown_version_is_pending(billing: BusFixture) -> None:
    set_cursor(billing.runtime, head(billing.runtime))
    receive(billing.runtime, "identity", "popug.identity.user_registered.v99", first=FIRST + 10)
    assert consumed(billing.runtime) == FIRST + 9


def test_each_consumer_of_the_service_counts(billing: BusFixture) -> None:
    set_cursor(billing.runtime, head(billing.runtime))
    slow = Consumer("tokens", (UserRegistered,), lambda events, context: None)
    with billing.runtime.reading(OPERATOR) as context:
        assert received_logs(context, "billing", (slow, CONSUMER))["identity"].consumed == FIRST - 1
        elsewhere = Consumer("slow", (TaskCompleted,), lambda events, context: None)
        assert received_logs(context, "billing", (elsewhere, CONSUMER))["identity"].consumed == FIRST + 3


def test_other_consumers_of_the_log_are_not_read(billing: BusFixture) -> None:
    with billing.runtime.reading(OPERATOR) as context:
        condition = type_condition(CONSUMER.types, CONSUMER.prefixes)
        statement = SELECT_FIRST_PENDING.format(of_type=condition)
        values = (1, *CONSUMER.types, *CONSUMER.prefixes, "identity")
        plan = [row[-1] for row in context.connection.select(f"EXPLAIN QUERY PLAN {statement}", *values)]
    assert not any("SCAN" in step or "TEMP B-TREE" in step or "once_received" in step for step in plan), plan


def test_includes_are_what_is_covered(billing: BusFixture) -> None:
    set_cursor(billing.runtime, head(billing.runtime))
    with billing.runtime.writing(OPERATOR) as context:
        assert includes_of(context, "billing", (CONSUMER,)) == {"identity": 0, "tasks": 0}
        state, offset = stream_store.load(context.connection, "tasks")
        says = changed(state, watermark=7, includes={"identity": FIRST + 1}, includes_watermark=7)
        stream_store.save(context.connection, "tasks", Stream(says, offset))
        assert includes_of(context, "billing", (CONSUMER,)) == {"identity": FIRST + 1, "tasks": 7}
        logs = received_logs(context, "billing", (CONSUMER,))
        seen = {"identity": Position(FIRST + 2, LOGS["identity"][-8:]), "tasks": Position(7, LOGS["tasks"][-8:])}
        assert uncovered("billing", logs, seen) == {"identity": FIRST + 2}
        assert uncovered("tasks", logs, {"analytics": Position(10**9, LOGS["x"][-8:])}) == {}


def test_events_set_aside_count_as_consumed_and_are_missing(billing: BusFixture) -> None:
    end = head(billing.runtime)
    set_cursor(billing.runtime, end)
    with billing.runtime.writing(OPERATOR) as context:
        for sequence in (end - 3, end - 2):
            parked_events.park(context, "billing", sequence, f"u{sequence}", RuntimeError("broken"))
    assert consumed(billing.runtime) == FIRST + 3
    with billing.runtime.reading(OPERATOR) as context:
        logs = received_logs(context, "billing", (CONSUMER,))
        for number, expected in ((FIRST - 1, 0), (FIRST, 1), (FIRST + 1, 2)):
            found_events = missing_events(context, logs, {"identity": Position(number, LOGS["identity"][-8:])})
            assert found_events == [MissingEvent(id_, "billing") for id_ in range(1, expected + 1)]
        assert missing_events(context, logs, {"identity": Position(FIRST + 1, "11111111")}) == []


def test_answer_has_the_position_of_the_last_own_event(billing: BusFixture) -> None:
    with billing.runtime.writing(OPERATOR) as context:
        context.events.publish(registration("ann"))
    own = head(billing.runtime)
    receive(billing.runtime, "identity", "popug.identity.user_registered.v1", first=FIRST + 10)
    with billing.runtime.reading(OPERATOR) as context:
        assert own_position(context, "billing") == Position(own, LOGS["x"][-8:])
        assert own_position(context, "mail") == Position(own + 1, LOGS["x"][-8:]), "nobody waits for it"

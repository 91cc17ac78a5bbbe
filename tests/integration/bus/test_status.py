"""The status of the bus: the position of each consumer, and problems."""

import json
from pathlib import Path

import pytest

from popug_cli.bus.consumers import Consumer
from popug_cli.bus.publisher import MAX_POSITION
from popug_cli.bus.status import bus_status, consumer_statuses, states_of
from popug_cli.messages.bus import BusStatus, ConsumerStatus, UnknownType
from popug_cli.messages.identity import UserDeactivated
from popug_cli.messages.principal import OPERATOR
from tests.support.bus_fixture import BusFixture


def nothing(*_: object) -> None:
    """Consume events without an effect."""


SLEEPER = Consumer("sleeper", (UserDeactivated,), nothing)


@pytest.fixture
def toy(tmp_path: Path) -> BusFixture:
    return BusFixture(tmp_path / "home")


def status(toy: BusFixture) -> BusStatus:
    with toy.runtime.reading(OPERATOR) as context:
        return bus_status(context, [toy.consumer, SLEEPER])


def deactivate(toy: BusFixture, *subjects: str) -> None:
    with toy.runtime.writing(OPERATOR) as context:
        for subject in subjects:
            context.events.publish(UserDeactivated(user_id=subject))


def break_log(toy: BusFixture, condition: str) -> None:
    toy.execute("DROP TRIGGER IF EXISTS bus_log_no_delete")
    toy.execute(f"DELETE FROM bus_log WHERE {condition}")


def test_status_of_a_new_log_is_empty(toy: BusFixture) -> None:
    assert status(toy) == BusStatus(
        last_sequence=0,
        consumers=[ConsumerStatus("toy", 0, 0, 0, 0), ConsumerStatus("sleeper", 0, 0, 0, 0)],
        unknown=[],
        problems=[],
    )


def test_lag_counts_events_still_to_consume_per_consumer(toy: BusFixture) -> None:
    toy.publish("ann", "bob")
    toy.catch_up()
    deactivate(toy, "ann")
    toy.publish("kim")
    assert status(toy).consumers == [ConsumerStatus("toy", 2, 2, 0, 0), ConsumerStatus("sleeper", 0, 1, 0, 0)]


def test_idle_consumer_is_shown_at_the_end_of_the_log(toy: BusFixture) -> None:
    toy.publish("ann", "bob")
    assert status(toy).consumers[1] == ConsumerStatus("sleeper", position=2, lag=0, dead=0, waiting=0)


@pytest.mark.parametrize(("within", "lag"), [(0, 0), (1, 1), (3, 3), (4, 4), (5, 4), (MAX_POSITION, 4)])
def test_lag_is_counted_within_some_positions(toy: BusFixture, within: int, lag: int) -> None:
    deactivate(toy, "a", "b", "c", "d")
    with toy.runtime.reading(OPERATOR) as context:
        assert consumer_statuses(context, [SLEEPER], within=within) == [ConsumerStatus("sleeper", 0, lag, 0, 0)]


@pytest.mark.parametrize(("within", "position"), [(1, 0), (2, 0), (3, 3), (4, 3), (MAX_POSITION, 3)])
def test_idle_consumer_is_at_the_end_if_all_is_counted(toy: BusFixture, within: int, position: int) -> None:
    toy.publish("a", "b", "c")
    with toy.runtime.reading(OPERATOR) as context:
        assert consumer_statuses(context, [SLEEPER], within=within) == [ConsumerStatus("sleeper", position, 0, 0, 0)]


def test_parked_events_are_counted_as_dead_or_waiting(toy: BusFixture) -> None:
    toy.failing = {"ann", "bob"}
    toy.publish("ann", "ann", "ann", "bob")
    for _ in range(5):
        toy.catch_up(include_not_due=True)
    toy.failing.add("kim")
    toy.publish("kim")
    toy.catch_up()
    assert status(toy).consumers == [
        ConsumerStatus("toy", 5, 0, dead=2, waiting=3),
        ConsumerStatus("sleeper", 5, 0, 0, 0),
    ]
    assert status(toy).problems == []


def test_unknown_types_are_counted_by_name(toy: BusFixture) -> None:
    for type_ in ("popug.weather.rain_fell.v1", "popug.mars.dust_rose.v1", "popug.weather.rain_fell.v1"):
        toy.append_unlinked(json.dumps({"type": type_}))
    toy.append_unlinked("{}")
    toy.publish("ann")
    assert status(toy).unknown == [
        UnknownType("none", 1),
        UnknownType("popug.mars.dust_rose.v1", 1),
        UnknownType("popug.weather.rain_fell.v1", 2),
    ]


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ("sequence = 1", "The log has a hole at 1: 1 of its 6 positions is missing."),
        ("sequence IN (1, 3)", "The log has a hole at 1: 2 of its 6 positions are missing."),
        ("sequence = 3", "The log has a hole at 3: 1 of its 6 positions is missing."),
        ("sequence IN (2, 4, 5)", "The log has a hole at 4: 3 of its 6 positions are missing."),
        ("sequence < 6", "The log has a hole at 1: 5 of its 6 positions are missing."),
    ],
)
def test_hole_in_the_log_is_named(toy: BusFixture, condition: str, problem: str) -> None:
    toy.publish(*"abcdef")
    break_log(toy, condition)
    assert status(toy).problems == [problem]


def test_cursor_beyond_the_end_is_named_and_shown(toy: BusFixture) -> None:
    toy.publish("ann")
    toy.catch_up()
    toy.execute("INSERT INTO bus_cursors (consumer, position) VALUES ('sleeper', 2)")
    assert status(toy).problems == ["The cursor of sleeper is at 2, beyond the end of the log at 1."]
    assert [each.position for each in status(toy).consumers] == [1, 2]


def test_cursor_that_passed_events_is_named_for_each_consumer(toy: BusFixture) -> None:
    toy.publish("ann")
    toy.catch_up()
    deactivate(toy, "ann", "bob")
    toy.publish("kim")
    toy.execute("INSERT INTO bus_cursors (consumer, position) VALUES ('sleeper', 3)")
    toy.execute("UPDATE bus_cursors SET position = 4 WHERE consumer = 'toy'")
    assert status(toy).problems == [
        "toy has skipped 3 events without processing, the first at 2.",
        "sleeper has skipped 2 events without processing, the first at 2.",
    ]


def test_states_of_event_are_listed_per_consumer(toy: BusFixture) -> None:
    toy.failing = {"ann"}
    toy.publish("ann", "bob")
    toy.catch_up()
    toy.execute("INSERT INTO bus_inbox (consumer, first_sequence, last_sequence) VALUES ('sleeper', 1, 1)")
    with toy.runtime.reading(OPERATOR) as context:
        assert [states_of(context, sequence) for sequence in (1, 2, 3)] == [
            {"toy": "retrying", "sleeper": "done"},
            {"toy": "done"},
            {},
        ]

"""Events that failed: parked with their error and times, given up by their consumer, or left out by a rebuild."""

from pathlib import Path

import pytest

from popug_cli.bus.catch_up import catch_up
from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Context
from popug_cli.bus.cursors import mark_rebuilt
from popug_cli.bus.parked_events import describe
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.messages.base import Event
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.identity import UserDeactivated, UserRegistered
from popug_cli.messages.principal import OPERATOR
from tests.support.bus_fixture import BusFixture, cursors, parked_events


@pytest.fixture
def toy(tmp_path: Path) -> BusFixture:
    return BusFixture(tmp_path / "home")


def done_ranges(toy: BusFixture) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in toy.rows("SELECT * FROM bus_inbox")]


def test_parked_event_has_error_and_times(toy: BusFixture) -> None:
    toy.failing, toy.error = {"ann"}, ValueError("two\n lines")
    toy.publish("ann")
    toy.catch_up()
    toy.clock.advance(seconds=1)
    toy.publish("ann")
    toy.catch_up()
    failed, waiting = toy.rows("SELECT * FROM bus_set_aside ORDER BY sequence")
    first = "2026-03-02T09:00:00.000000Z"
    due_at = failed.pop("due_at")
    assert "2026-03-02T09:00:05" <= str(due_at) <= "2026-03-02T09:00:10.000000Z"
    assert failed == {
        "id": 1, "consumer": "toy", "sequence": 1, "subject": "ann", "state": "retrying", "attempts": 1,
        "error": "ValueError: two lines", "since": first,
    }  # fmt: skip
    assert waiting == {
        "id": 2, "consumer": "toy", "sequence": 2, "subject": "ann", "state": "waiting", "attempts": 0,
        "due_at": None, "error": "waits", "since": to_rfc3339(toy.clock.now()),
    }  # fmt: skip


def test_second_failure_has_its_error_and_waits_longer(toy: BusFixture) -> None:
    toy.failing = {"ann"}
    toy.publish("ann")
    toy.catch_up()
    toy.error = KeyError("gone")
    toy.catch_up(include_not_due=True)
    (row,) = toy.rows("SELECT state, attempts, error, due_at FROM bus_set_aside")
    assert (row["state"], row["attempts"], row["error"]) == ("retrying", 2, "KeyError: 'gone'")
    assert "2026-03-02T09:00:10" <= str(row["due_at"]) <= "2026-03-02T09:00:20.000000Z"


def test_error_is_described_in_a_bounded_line() -> None:
    assert describe(ValueError(" ")) == "ValueError: no message"
    assert describe(ValueError("x" * 600)) == f"ValueError: {'x' * 488}"


def test_event_given_up_by_its_consumer_is_done(toy: BusFixture) -> None:
    asked: list[tuple[str, str]] = []

    def give_up(event: Delivered[Event], error: str, context: Context) -> bool:
        asked.append((event.subject, error))
        context.events.publish(UserDeactivated(user_id="given up"))
        return event.subject == "bad"

    consumer = Consumer("toy", (UserRegistered,), toy.consumer.consume, give_up)
    toy.failing = {"bad", "worse"}
    toy.publish("bad", "ann", "worse")
    assert catch_up(toy.runtime, [consumer]).failures == {"toy": 1}
    assert asked == [("bad", "RuntimeError: broken"), ("worse", "RuntimeError: broken")]
    assert done_ranges(toy) == [("toy", 1, 2)]
    assert parked_events(toy) == [(3, "retrying", 1)]
    assert [row["subject"] for row in toy.rows("SELECT subject FROM bus_log WHERE sequence > 3")] == ["given up"] * 2


def test_failed_give_up_keeps_its_error(toy: BusFixture) -> None:
    def give_up(*_: object) -> bool:
        raise RuntimeError("no pen")

    toy.failing = {"bad"}
    toy.publish("bad")
    catch_up(toy.runtime, [Consumer("toy", (UserRegistered,), toy.consumer.consume, give_up)])
    assert toy.rows("SELECT error FROM bus_set_aside") == [
        {"error": "PermanentFailure: giving the event up failed too: RuntimeError: no pen"}
    ]


def test_dropped_or_parked_event_is_not_consumed_again(toy: BusFixture) -> None:
    toy.failing = {"ann", "bob"}
    toy.publish("ann", "bob", "kim")
    toy.catch_up()
    toy.execute("UPDATE bus_set_aside SET state = 'dropped', due_at = NULL WHERE sequence = 1")
    toy.execute("UPDATE bus_cursors SET position = 0")
    toy.failing = set()
    toy.catch_up()
    assert toy.effects() == ["kim"]
    assert parked_events(toy) == [(1, "dropped", 1), (2, "retrying", 1)]


def test_rebuilt_consumer_is_done_but_for_parked_events(toy: BusFixture) -> None:
    toy.failing = {"ann"}
    toy.publish("ann", "bob")
    toy.catch_up()
    toy.execute("DELETE FROM bus_inbox")
    toy.execute(
        "INSERT INTO bus_set_aside (consumer, sequence, subject, state, attempts, error, since)"
        " VALUES ('another', 3, 'kim', 'dead', 5, 'no', '')"
    )
    toy.publish("kim")
    toy.append_unlinked('{"type": "popug.weather.rain_fell.v1"}')
    with toy.runtime.writing(OPERATOR) as context:
        mark_rebuilt(context, toy.consumer)
        mark_rebuilt(context, toy.consumer)
    assert done_ranges(toy) == [("toy", 2, 4)]
    assert cursors(toy) == {"toy": 4}

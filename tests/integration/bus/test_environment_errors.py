"""Failures of a consumer: an environment error counts no attempt, an error of the event does."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from popug_cli.bus.catch_up import catch_up
from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Context
from popug_cli.bus.retry import PermanentFailure
from popug_cli.messages.base import Event
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.identity import UserRegistered
from tests.support.bus_fixture import NO_SPACE, BusFixture, RecordingConsumer, cursors, parked_events


@pytest.fixture
def toy(tmp_path: Path) -> BusFixture:
    return BusFixture(tmp_path / "home")


def test_environment_error_stops_only_its_consumer(toy: BusFixture) -> None:
    stuck, ear = (
        RecordingConsumer("stuck", error=OSError(28, "No space left on device", "popug.db")),
        RecordingConsumer("ear"),
    )
    toy.publish("ann")
    report = catch_up(toy.runtime, [stuck.consumer, ear.consumer])
    assert ([fault.code for fault in report.errors], report.failures) == (["disk_full"], {})
    assert ear.chunks == [([1], 1)]
    assert cursors(toy) == {"ear": 1}


def test_environment_error_occurs_once_and_counts_no_failure(toy: BusFixture) -> None:
    tries: list[int] = []

    def refuse(events: Sequence[Delivered[Event]], context: Context) -> None:
        tries.append(len(events))
        raise NO_SPACE

    toy.publish("ann", "bob")
    report = catch_up(toy.runtime, [Consumer("ear", (UserRegistered,), refuse)])
    assert [fault.code for fault in report.errors] == ["disk_full"]
    assert (tries, parked_events(toy)) == ([2], [])


def test_environment_error_in_a_retry_counts_no_attempt(toy: BusFixture) -> None:
    toy.failing = {"ann"}
    toy.publish("ann")
    toy.catch_up()
    toy.error = NO_SPACE
    assert [fault.code for fault in toy.catch_up(include_not_due=True).errors] == ["disk_full"]
    assert parked_events(toy) == [(1, "retrying", 1)]


def test_environment_error_during_give_up_parks_nothing(toy: BusFixture) -> None:
    def refuse(event: Delivered[Event], error: str, context: Context) -> bool:
        raise NO_SPACE

    toy.failing = {"ann"}
    toy.publish("ann")
    resigned = Consumer("toy", (UserRegistered,), toy.consumer.consume, refuse)
    assert [fault.code for fault in catch_up(toy.runtime, [resigned]).errors] == ["disk_full"]
    assert parked_events(toy) == []


def test_give_up_is_not_called_for_an_unreadable_event(toy: BusFixture) -> None:
    asked: list[object] = []

    def give_up(event: Delivered[Event], error: str, context: Context) -> bool:
        asked.append(event)
        return True

    toy.append_unlinked(
        '{"specversion":"1.0","id":"odd","source":"/popug/identity","type":"popug.identity.user_registered.v1",'
        '"subject":"ann","time":"2026-03-02T09:00:00Z","data":{"user_id":7}}'
    )
    catch_up(toy.runtime, [Consumer("toy", (UserRegistered,), toy.consumer.consume, give_up)])
    assert asked == []
    assert [state for _, state, _ in parked_events(toy)] == ["dead"]


def test_permanent_failure_of_a_retry_makes_a_dead_letter(toy: BusFixture) -> None:
    toy.failing = {"ann"}
    toy.publish("ann")
    toy.catch_up()
    toy.error = PermanentFailure("for good")
    toy.catch_up(include_not_due=True)
    assert parked_events(toy) == [(1, "dead", 2)]

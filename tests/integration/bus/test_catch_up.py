"""Consumers catch up in batches, within a time limit, and leave some events for later."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from popug_cli.bus import catch_up as catch_up_module
from popug_cli.bus import consumers
from popug_cli.bus.catch_up import CatchUpResult, catch_up
from popug_cli.bus.consumers import Consumer, Turn, retry_due
from popug_cli.bus.context import Context, Runtime
from popug_cli.bus.cursors import is_current
from popug_cli.kernel.errors import Unavailable
from popug_cli.messages.base import Event
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.identity import UserDeactivated, UserEmailChanged, UserRegistered
from popug_cli.messages.principal import OPERATOR
from tests.support.bus_fixture import NO_SPACE, BusFixture, RecordingConsumer, cursors, parked_events

FAR = 100
LATER = "9999"


@pytest.fixture
def toy(tmp_path: Path) -> BusFixture:
    return BusFixture(tmp_path / "home")


class Watch:
    """A monotonic clock that advances by a second at each reading."""

    def __init__(self, seconds: float) -> None:
        self.now, self.seconds = 0.0, seconds

    def monotonic(self) -> float:
        self.now += self.seconds
        return self.now


def test_current_consumer_reports_nothing(toy: BusFixture) -> None:
    toy.publish("ann")
    assert toy.catch_up() == CatchUpResult(failures={}, errors=[], complete=True)
    assert toy.catch_up() == CatchUpResult()


def test_consumer_is_current_once_events_are_done_or_parked(toy: BusFixture) -> None:
    def current() -> bool:
        with toy.runtime.reading(OPERATOR) as context:
            return is_current(context, toy.consumer)

    assert current()
    toy.publish("ann")
    assert not current()
    toy.failing = {"ann"}
    toy.catch_up()
    assert current()


def test_catch_up_delivers_batches_with_their_end_position(toy: BusFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "BATCH_EVENTS", 2)
    toy.publish("a", "b", "c")
    with toy.runtime.writing(OPERATOR) as context:
        context.events.publish(UserDeactivated(user_id="a"))
    ear = RecordingConsumer("ear")
    catch_up(toy.runtime, [ear.consumer])
    assert ear.chunks == [([1, 2], 2), ([3], 4)]
    assert cursors(toy) == {"ear": 4}


def test_large_batch_is_split_into_transactions(toy: BusFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "BATCH_EVENTS", 5)
    toy.publish("a", "b", "c", "d", "e", "f")
    ear = RecordingConsumer("ear")
    ear.consumer = replace(ear.consumer, max_batch=2)
    assert consumers.process_next_batch(toy.runtime, ear.consumer).failures == 0
    assert ear.chunks == [([1, 2], 2), ([3, 4], 4), ([5], 5)]
    assert cursors(toy) == {"ear": 5}
    assert consumers.process_next_batch(toy.runtime, ear.consumer).failures == 0
    assert ear.chunks[3:] == [([6], 6)]


def deactivates(name: str) -> Consumer:
    """A consumer that deactivates each user who registers."""

    def consume(events: Sequence[Delivered[Event]], context: Context) -> None:
        for event in events:
            context.events.publish(UserDeactivated(user_id=event.subject), cause=event)

    return Consumer(name, (UserRegistered,), consume)


def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record each look for consumers that have work, from now on."""
    counted: list[int] = []
    look = catch_up_module._consumers_with_work

    def noted(*args: Any) -> Any:
        counted.append(1)
        return look(*args)

    monkeypatch.setattr(catch_up_module, "_consumers_with_work", noted)
    return counted


def test_events_of_a_consumer_reach_others_in_one_look(toy: BusFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    ear = RecordingConsumer("ear", (UserDeactivated,))
    toy.publish("ann")
    looked = looks(monkeypatch)
    assert catch_up(toy.runtime, [ear.consumer, deactivates("leaver")]).complete
    assert (ear.chunks, len(looked)) == ([([2], 2)], 1)


def test_look_is_repeated_for_what_a_batch_leaves(toy: BusFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "BATCH_EVENTS", 2)
    toy.publish("a", "b", "c")
    looked = looks(monkeypatch)
    assert toy.catch_up().complete
    assert (toy.effects(), len(looked)) == (["a", "b", "c"], 2)


def test_failure_in_one_batch_is_parked_and_others_are_done(toy: BusFixture) -> None:
    toy.failing = {"b"}
    toy.publish("a", "b", "c", "b", "d")
    toy.consumer = replace(toy.consumer, max_batch=2)
    assert toy.catch_up().failures == {"toy": 1}
    assert [row[0] for row in parked_events(toy)] == [2, 4]
    assert sorted(toy.effects()) == ["a", "c", "d"]
    assert cursors(toy)["toy"] == 5


def test_last_batch_may_be_full(toy: BusFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "BATCH_EVENTS", 2)
    toy.publish("a", "b")
    ear = RecordingConsumer("ear")
    assert catch_up(toy.runtime, [ear.consumer]).complete
    assert ear.chunks == [([1, 2], 2)]


@pytest.mark.parametrize(("seconds", "turns", "complete"), [(0.01, 2, True), (1, 2, False), (2, 1, False)])
def test_time_of_a_command_for_its_consumers_is_bounded(
    toy: BusFixture, monkeypatch: pytest.MonkeyPatch, seconds: float, turns: int, complete: bool
) -> None:
    toy.publish("ann")
    ears = [RecordingConsumer("one"), RecordingConsumer("two")]
    monkeypatch.setattr(catch_up_module, "time", Watch(seconds))
    assert catch_up(toy.runtime, [each.consumer for each in ears]).complete is complete
    assert sum(len(each.chunks) for each in ears) == turns


def test_failures_are_added_up_by_consumer(toy: BusFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "BATCH_EVENTS", 2)
    toy.failing = {"a", "b", "c"}
    toy.publish("a", "b", "c", "d")
    assert catch_up(toy.runtime, [toy.consumer, RecordingConsumer("ear").consumer]).failures == {"toy": 3}
    toy.failing = {"a", "c"}
    assert toy.catch_up(include_not_due=True).failures == {"toy": 2}
    assert toy.catch_up().failures == {}


def test_include_not_due_retries_each_event_once(toy: BusFixture) -> None:
    toy.failing = {"ann"}
    toy.publish("ann")
    toy.catch_up()
    toy.catch_up()
    assert parked_events(toy) == [(1, "retrying", 1)]
    toy.catch_up(include_not_due=True)
    assert parked_events(toy) == [(1, "retrying", 2)]


def test_retries_stop_when_their_time_is_over_after_some_of_them(
    toy: BusFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.failing = {"a", "b", "c"}
    toy.publish("a", "b", "c")
    toy.catch_up()
    toy.failing = set()
    monkeypatch.setattr(consumers, "SUBJECTS_PER_TRANSACTION", 1)
    monkeypatch.setattr(consumers, "time", Watch(1))
    assert retry_due(toy.runtime, toy.consumer, LATER, deadline=1) == 0
    assert toy.effects() == ["a", "b"]
    toy.failing = {"c"}
    assert retry_due(toy.runtime, toy.consumer, LATER, deadline=9) == 1


def test_idle_consumer_far_behind_moves_its_cursor(toy: BusFixture) -> None:
    deaf = RecordingConsumer("deaf", (UserDeactivated,))
    toy.publish(*["ann"] * (FAR - 1))
    catch_up(toy.runtime, [deaf.consumer])
    assert cursors(toy) == {}
    toy.publish("ann")
    catch_up(toy.runtime, [deaf.consumer])
    assert cursors(toy) == {"deaf": FAR}


def test_consumer_far_behind_finds_event_past_next_hundred(toy: BusFixture) -> None:
    near, far = RecordingConsumer("near"), RecordingConsumer("far", (UserDeactivated,))
    toy.publish(*["ann"] * 30)
    catch_up(toy.runtime, [near.consumer])
    toy.publish(*["ann"] * FAR)
    with toy.runtime.writing(OPERATOR) as context:
        context.events.publish(UserDeactivated(user_id="ann"))
    catch_up(toy.runtime, [near.consumer, far.consumer])
    assert cursors(toy) == {"near": 30 + FAR + 1, "far": 30 + FAR + 1}
    assert far.chunks == [([30 + FAR + 1], 30 + FAR + 1)]


def test_environment_error_does_not_block_retries_of_others(toy: BusFixture) -> None:
    toy.failing = {"ann"}
    toy.publish("ann")
    toy.catch_up()
    stuck = RecordingConsumer("stuck", error=OSError(28, "No space left on device", "popug.db"))
    toy.failing = set()
    catch_up(toy.runtime, [stuck.consumer, toy.consumer], include_not_due=True)
    assert toy.effects() == ["ann"]


def test_stuck_consumer_far_behind_hides_no_event_of_others(toy: BusFixture) -> None:
    stuck, ear = (
        RecordingConsumer("stuck", error=OSError(28, "No space left on device", "popug.db")),
        RecordingConsumer("ear"),
    )
    toy.publish(*(f"a{number}" for number in range(FAR)))
    catch_up(toy.runtime, [ear.consumer])
    toy.publish("bob")
    catch_up(toy.runtime, [stuck.consumer, ear.consumer])
    assert ear.chunks[-1] == ([FAR + 1], FAR + 1)


def advanced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the name of each consumer that processes a batch from now on."""
    names: list[str] = []
    advance = consumers.process_next_batch

    def noted(runtime: Runtime, consumer: Consumer, all_consumers: Sequence[Consumer] = ()) -> Turn:
        names.append(consumer.name)
        return advance(runtime, consumer, all_consumers)

    monkeypatch.setattr(catch_up_module, "process_next_batch", noted)
    return names


def test_current_consumer_is_not_run_for_one_far_behind(toy: BusFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.publish(*(f"a{number}" for number in range(FAR)))
    catch_up(toy.runtime, [toy.consumer])
    names = advanced(monkeypatch)
    catch_up(toy.runtime, [toy.consumer, RecordingConsumer("ear").consumer])
    assert names == ["ear"]


def test_consumer_is_not_run_for_unrelated_published_events(toy: BusFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def talk(events: Sequence[Delivered[Event]], context: Context) -> None:
        for number in range(FAR):
            context.events.publish(UserEmailChanged(user_id="ann", email=f"{number}@example.com"))

    toy.publish("ann")
    toy.catch_up()
    names = advanced(monkeypatch)
    assert catch_up(toy.runtime, [Consumer("talker", (UserRegistered,), talk), toy.consumer]) == CatchUpResult()
    assert names == ["talker"]


def test_catch_up_without_consumers_does_nothing(toy: BusFixture) -> None:
    assert catch_up(toy.runtime, []) == CatchUpResult()


def later(toy: BusFixture, ear: RecordingConsumer) -> Consumer:
    """Return a consumer during which a day passes."""

    def wait(events: Sequence[Delivered[Event]], context: Context) -> None:
        toy.clock.advance(days=1)

    return Consumer(ear.name, ear.event_types, wait)


def test_event_due_during_catch_up_waits_for_the_next_one(toy: BusFixture) -> None:
    toy.failing = {"ann"}
    toy.publish("ann")
    toy.catch_up()
    toy.failing = set()
    catch_up(toy.runtime, [toy.consumer, later(toy, RecordingConsumer("slow"))])
    assert toy.effects() == []
    toy.catch_up()
    assert toy.effects() == ["ann"]


def test_include_not_due_retries_events_due_at_its_end(toy: BusFixture) -> None:
    toy.failing = {"ann"}
    toy.publish("ann")
    catch_up(toy.runtime, [toy.consumer, later(toy, RecordingConsumer("slow"))], include_not_due=True)
    assert parked_events(toy) == [(1, "retrying", 3)]


def test_batch_ends_with_its_last_event(toy: BusFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "BATCH_EVENTS", 3)
    toy.publish("a", "b", "c", "d", "e")
    consumers.process_next_batch(toy.runtime, toy.consumer)
    assert cursors(toy) == {"toy": 3}


def test_last_is_minus_one_before_the_first_event(toy: BusFixture) -> None:
    with toy.runtime.writing(OPERATOR) as context:
        assert context.events.last_position == -1


def test_error_in_rolled_back_run_is_raised_after_rollback(toy: BusFixture) -> None:
    def rehearse() -> None:
        with toy.runtime.writing(OPERATOR) as context, consumers.rolled_back(context):
            context.events.publish(UserDeactivated(user_id="ann"))
            context.connection.execute("ROLLBACK")
            raise NO_SPACE

    with pytest.raises(Unavailable, match="The disk is full"):
        rehearse()
    assert toy.rows("SELECT 1 FROM bus_log") == []

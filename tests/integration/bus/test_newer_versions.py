"""Consumers subscribe to names: at a version that the program does not know they stop, and go on after an upgrade."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from popug_cli.bus import parked_events as parking
from popug_cli.bus.catch_up import catch_up
from popug_cli.bus.consumers import Consumer
from popug_cli.bus.cursors import UnknownVersion, is_current, unknown_versions
from popug_cli.bus.dead_letters import retry
from popug_cli.kernel.errors import PopugError
from popug_cli.messages import envelope
from popug_cli.messages.base import EVENTS
from popug_cli.messages.identity import UserRegistered
from popug_cli.messages.principal import OPERATOR
from tests.support.bus_fixture import BusFixture, RecordingConsumer, cursors, parked_events

REGISTERED_9 = "popug.identity.user_registered.v9"


@pytest.fixture
def toy(tmp_path: Path) -> BusFixture:
    return BusFixture(tmp_path / "home")


@pytest.fixture
def upgrade() -> Iterator[None]:
    """Let the program know version 9 at the end of a block, as a newer one does."""
    yield
    EVENTS.pop(REGISTERED_9, None)
    envelope._decoder_of.cache_clear()


def append_9(toy: BusFixture, subject: str = "kim") -> None:
    data = {"user_id": subject, "username": subject, "email": f"{subject}@example.com", "role": "worker"}
    event = {"type": REGISTERED_9, "id": subject, "subject": subject, "time": "2026-03-02T09:00:00Z", "data": data}
    toy.append_unlinked(json.dumps(event))


def upgraded(toy: BusFixture) -> Consumer:
    EVENTS[REGISTERED_9] = UserRegistered
    envelope._decoder_of.cache_clear()
    newer = Consumer("toy", toy.consumer.subscribes, toy.consumer.consume)
    object.__setattr__(newer, "types", (*newer.types, REGISTERED_9))
    return newer


def stops(errors: list[PopugError]) -> list[tuple[str, object]]:
    return [(error.code, error.details["sequence"]) for error in errors]


def test_consumer_stops_before_it_and_parks_nothing(toy: BusFixture) -> None:
    toy.publish("ann")
    append_9(toy)
    toy.publish("bob", "kim")
    for _ in range(3):
        result = toy.catch_up(include_not_due=True)
        assert stops(result.errors) == [("behind", 2)]
        assert (result.failures, result.complete) == ({}, True)
    assert toy.effects() == ["ann"]
    assert parked_events(toy) == []
    assert cursors(toy) == {"toy": 1}


def test_it_goes_on_after_an_upgrade(toy: BusFixture, upgrade: None) -> None:
    append_9(toy)
    toy.publish("bob")
    toy.catch_up()
    assert toy.effects() == []
    assert catch_up(toy.runtime, [upgraded(toy)]).errors == []
    assert toy.effects() == ["kim", "bob"]


def test_other_consumers_go_on(toy: BusFixture) -> None:
    append_9(toy)
    toy.execute("INSERT INTO bus_cursors (consumer, position) VALUES ('mail', 0)")
    toy.publish("bob")
    other = RecordingConsumer("mail", (EVENTS["popug.identity.user_deactivated.v1"],))
    result = catch_up(toy.runtime, [toy.consumer, other.consumer])
    assert stops(result.errors) == [("behind", 1)]
    with toy.runtime.reading(OPERATOR) as context:
        assert not is_current(context, toy.consumer)
        assert is_current(context, other.consumer)
        assert [(error.details["consumer"]) for error in unknown_versions(context, [toy.consumer, other.consumer])] == [
            "toy"
        ]


def test_batch_of_thousands_ends_before_it(toy: BusFixture) -> None:
    toy.publish(*(f"u{number}" for number in range(2_500)))
    append_9(toy)
    toy.publish(*(f"later{number}" for number in range(200)))
    result = toy.catch_up()
    assert stops(result.errors) == [("behind", 2_501)]
    assert len(toy.effects()) == 2_500
    assert cursors(toy) == {"toy": 2_500}


def test_event_behind_a_dead_letter_is_not_parked(toy: BusFixture, upgrade: None) -> None:
    toy.failing = {"kim"}
    toy.publish("kim")
    toy.catch_up()
    append_9(toy, "kim")
    toy.catch_up()
    assert [row[0] for row in parked_events(toy)] == [1]
    catch_up(toy.runtime, [upgraded(toy)])
    assert [row[:2] for row in parked_events(toy)] == [(1, "retrying"), (2, "waiting")]


def test_retry_of_what_a_newer_program_parked_stops(toy: BusFixture) -> None:
    append_9(toy)
    toy.publish("bob")
    toy.failing = {"bob"}
    with toy.runtime.writing(OPERATOR) as context:
        parking.park(context, "toy", 1, "kim", RuntimeError("of the newer program"))
        context.connection.execute("INSERT INTO bus_cursors (consumer, position) VALUES ('toy', 1)")
    toy.catch_up()
    toy.failing = set()
    result = toy.catch_up(include_not_due=True)
    assert stops(result.errors) == [("behind", 1)]
    assert toy.effects() == ["bob"]
    assert parked_events(toy) == [(1, "retrying", 1)]
    with toy.runtime.reading(OPERATOR) as context:
        assert stops([*unknown_versions(context, [toy.consumer])]) == [("behind", 1)]
    with pytest.raises(UnknownVersion), toy.runtime.writing(OPERATOR) as context:
        retry(context, [toy.consumer], None)


@pytest.mark.parametrize("suffix", ["v", "v0", "v09", "v1.9", "v9x", "V9", "v²"])
def test_what_only_resembles_a_version_is_skipped(toy: BusFixture, suffix: str) -> None:
    type_ = f"popug.identity.user_registered.{suffix}"
    assert not toy.consumer.subscribes_to(type_)
    toy.append_unlinked(json.dumps({"type": type_, "id": "1", "subject": "ann"}))
    toy.publish("bob")
    assert toy.catch_up().errors == []
    assert toy.effects() == ["bob"]


@pytest.mark.parametrize("version", [2, 9, 10, 10**30])
def test_any_later_version_belongs_to_the_subscription(toy: BusFixture, version: int) -> None:
    assert toy.consumer.subscribes_to(f"popug.identity.user_registered.v{version}")
    assert not toy.consumer.subscribes_to(f"popug.identity.user_registered_twice.v{version}")

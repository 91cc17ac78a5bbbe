"""A batch is first processed without savepoints, and again with them if an event fails."""

from collections.abc import Sequence
from pathlib import Path
from unittest.mock import Mock

import pytest

from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Context
from popug_cli.messages.base import Event
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.identity import UserDeactivated, UserRegistered
from popug_cli.storage.port import Connection
from tests.support.bus_fixture import BusFixture


@pytest.fixture
def toy(tmp_path: Path) -> BusFixture:
    return BusFixture(tmp_path / "home")


def test_failed_attempt_publishes_nothing_and_others_once(toy: BusFixture) -> None:
    toy.failing = {"d"}
    toy.publish("a", "b", "c", "d", "e")

    def consume_and_publish(events: Sequence[Delivered[Event]], context: Context) -> None:
        for event in events:
            context.events.publish(UserDeactivated(user_id=f"left-{event.subject}"))
        toy._consume(events, context)

    toy.consumer = Consumer("toy", (UserRegistered,), consume_and_publish, max_batch=2)
    assert toy.catch_up().failures == {"toy": 1}
    assert toy.effects() == ["a", "b", "c", "e"]
    subjects = [row["subject"] for row in toy.rows("SELECT subject FROM bus_log WHERE sequence > 5 ORDER BY sequence")]
    assert subjects == ["left-a", "left-b", "left-c", "left-e"]
    assert len(toy.rows("SELECT * FROM bus_links")) == 2


def test_batch_without_failures_makes_no_savepoint(toy: BusFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.publish("a", "b", "c")
    monkeypatch.setattr(Connection, "savepoint", Mock(side_effect=AssertionError))
    assert toy.catch_up().failures == {}
    assert toy.effects() == ["a", "b", "c"]

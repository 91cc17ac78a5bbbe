"""When a hook has its turn: not while somebody runs it, not before it is due, and not for what is not for it."""

from datetime import timedelta
from pathlib import Path

import pytest

from popug_cli.bus import hooks
from popug_cli.bus.hooks import IDLE_EVENTS, claim, is_due, keep_up
from popug_cli.messages.identity import UserRegistered
from popug_cli.messages.principal import OPERATOR
from tests.integration.toy import Toy

LEASE = timedelta(minutes=1)
TYPES = (UserRegistered.TYPE,)
OTHERS = ("popug.tasks.task_created.v1",)


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """A home that knows a hook from its beginning, with an event for it."""
    made = Toy(tmp_path / "home")
    with made.runtime.writing(OPERATOR) as context:
        keep_up(context, {"hook": made.clock.instant})
    made.publish("ann")
    return made


def due(toy: Toy, types: tuple[str, ...] = TYPES) -> bool:
    with toy.runtime.reading(OPERATOR) as context:
        return is_due(context, "hook", types, LEASE)


def claimed(toy: Toy, types: tuple[str, ...] = TYPES) -> hooks.Claimed | None:
    with toy.runtime.writing(OPERATOR) as context:
        return claim(context, "hook", types, LEASE)


def place(toy: Toy) -> hooks.Place:
    with toy.runtime.reading(OPERATOR) as context:
        return hooks.places(context)["hook"]


def test_a_hook_that_somebody_runs_is_not_due(toy: Toy) -> None:
    assert due(toy)
    assert claimed(toy)
    assert not due(toy)
    toy.clock.advance(minutes=2)
    assert due(toy)


def test_a_hook_that_waits_for_a_later_try_is_not_due_before(toy: Toy) -> None:
    taken = claimed(toy)
    assert taken
    with toy.runtime.writing(OPERATOR) as context:
        hooks.failed(context, taken, "no luck")
    assert place(toy).due_at
    assert not due(toy)
    assert claimed(toy) is None
    toy.clock.advance(hours=1)
    assert due(toy)


@pytest.mark.parametrize(("more", "is_far"), [(IDLE_EVENTS - 1, False), (IDLE_EVENTS, True)])
def test_a_place_follows_the_log_when_it_is_far_behind_and_nothing_is_for_the_hook(
    toy: Toy, more: int, is_far: bool
) -> None:
    before = IDLE_EVENTS // 2
    toy.publish(*(f"early{number}" for number in range(before - 1)))
    toy.execute(f"UPDATE bus_hooks SET position = {before}")
    toy.publish(*(f"late{number}" for number in range(more)))
    assert due(toy, OTHERS) is is_far
    assert claimed(toy, OTHERS) is None
    assert place(toy).position == (before + more if is_far else before)

"""A hook is not due during a lease, before its back-off ends, or for unrelated events only."""

from datetime import timedelta
from pathlib import Path

import pytest

from popug_cli.bus import hook_cursors
from popug_cli.bus.hook_cursors import MIN_SKIPPED_EVENTS, is_due, lease_next, sync
from popug_cli.messages.identity import UserRegistered
from popug_cli.messages.principal import OPERATOR
from tests.support.bus_fixture import BusFixture

LEASE = timedelta(minutes=1)
TYPES = (UserRegistered.TYPE,)
OTHERS = ("popug.tasks.task_created.v1",)


@pytest.fixture
def toy(tmp_path: Path) -> BusFixture:
    """A home with the cursor of a hook at the start of the log, and an event for it."""
    made = BusFixture(tmp_path / "home")
    with made.runtime.writing(OPERATOR) as context:
        sync(context, {"hook": made.clock.instant})
    made.publish("ann")
    return made


def due(toy: BusFixture, types: tuple[str, ...] = TYPES) -> bool:
    with toy.runtime.reading(OPERATOR) as context:
        return is_due(context, "hook", types, LEASE)


def claimed(toy: BusFixture, types: tuple[str, ...] = TYPES) -> hook_cursors.ClaimedEvent | None:
    with toy.runtime.writing(OPERATOR) as context:
        return lease_next(context, "hook", types, LEASE)


def cursor_of(toy: BusFixture) -> hook_cursors.HookCursor:
    with toy.runtime.reading(OPERATOR) as context:
        return hook_cursors.cursors(context)["hook"]


def test_leased_hook_is_not_due(toy: BusFixture) -> None:
    assert due(toy)
    assert claimed(toy)
    assert not due(toy)
    toy.clock.advance(minutes=2)
    assert due(toy)


def test_hook_that_backs_off_is_not_due(toy: BusFixture) -> None:
    taken = claimed(toy)
    assert taken
    with toy.runtime.writing(OPERATOR) as context:
        hook_cursors.mark_failed(context, taken, "no luck")
    assert cursor_of(toy).due_at
    assert not due(toy)
    assert claimed(toy) is None
    toy.clock.advance(hours=1)
    assert due(toy)


@pytest.mark.parametrize(("more", "is_far"), [(MIN_SKIPPED_EVENTS - 1, False), (MIN_SKIPPED_EVENTS, True)])
def test_idle_hook_cursor_far_behind_follows_the_log(toy: BusFixture, more: int, is_far: bool) -> None:
    before = MIN_SKIPPED_EVENTS // 2
    toy.publish(*(f"early{number}" for number in range(before - 1)))
    toy.execute(f"UPDATE bus_hooks SET position = {before}")
    toy.publish(*(f"late{number}" for number in range(more)))
    assert due(toy, OTHERS) is is_far
    assert claimed(toy, OTHERS) is None
    assert cursor_of(toy).position == (before + more if is_far else before)

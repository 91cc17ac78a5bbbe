"""The cursor of a hook in the log: claims, leases, and their results."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from popug_cli.bus import hook_cursors
from popug_cli.bus.context import Context
from popug_cli.bus.hook_cursors import ClaimedEvent, HookCursor
from popug_cli.kernel.clock import from_rfc3339, to_rfc3339
from popug_cli.messages.identity import UserDeactivated, UserRegistered
from popug_cli.messages.principal import OPERATOR
from tests.support.bus_fixture import BusFixture

LEASE = timedelta(seconds=60)
TICK = timedelta(microseconds=1)
REGISTERED = [UserRegistered.TYPE]
DEACTIVATED = [UserDeactivated.TYPE]
FAR = 100
Answer = TypeVar("Answer")


@pytest.fixture
def toy(tmp_path: Path) -> BusFixture:
    """A log of two events, and the hook ``chat`` that consumes both."""
    made = BusFixture(tmp_path / "home")
    keep_up(made, {"chat": made.clock.now()})
    made.publish("ann", "bob")
    return made


@contextmanager
def held(toy: BusFixture) -> Iterator[Context]:
    with toy.runtime.writing(OPERATOR) as context:
        yield context


def keep_up(toy: BusFixture, files: Mapping[str, datetime]) -> None:
    with held(toy) as context:
        assert hook_cursors.needs_sync(context, files) or set(files) == set(hook_cursors.cursors(context))
        hook_cursors.sync(context, files)


def cursor_of(toy: BusFixture, name: str = "chat") -> HookCursor:
    with held(toy) as context:
        return hook_cursors.cursors(context)[name]


def names(toy: BusFixture) -> list[str]:
    with held(toy) as context:
        return list(hook_cursors.cursors(context))


def claim(toy: BusFixture, types: hook_cursors.Types = None, name: str = "chat") -> ClaimedEvent | None:
    """Claim a due event; a hook that is not due claims none."""
    with held(toy) as context:
        due = hook_cursors.is_due(context, name, types, LEASE)
        claimed = hook_cursors.lease_next(context, name, types, LEASE)
        assert due or claimed is None
        return claimed


def claimed(toy: BusFixture, types: hook_cursors.Types = None) -> ClaimedEvent:
    found = claim(toy, types)
    assert found is not None
    return found


def after(toy: BusFixture, act: Callable[..., Answer], *arguments: object) -> Answer:
    with held(toy) as context:
        return act(context, *arguments)


def fail(toy: BusFixture, times: int = 1) -> list[bool]:
    """Fail the next event that often, each time when it is due. Return whether it became a dead letter."""
    answers = []
    for _ in range(times):
        toy.clock.advance(hours=2)
        answers.append(after(toy, hook_cursors.mark_failed, claimed(toy), "no answer"))
    return answers


def letters(toy: BusFixture) -> list[tuple[object, ...]]:
    statement = "SELECT hook, sequence, state, attempts, error, since FROM bus_hook_letters ORDER BY hook, sequence"
    return [tuple(row.values()) for row in toy.rows(statement)]


def test_new_hook_starts_when_its_file_was_changed(toy: BusFixture) -> None:
    toy.clock.advance(seconds=5)
    toy.publish("kim")
    now = toy.clock.now()
    changed = {
        "before all": now - timedelta(days=1),
        "between": now - timedelta(seconds=1),
        "with the last": now,
        "just after the last": now - TICK,
        "yet to come": now + TICK,
    }
    keep_up(toy, changed | {"chat": now})
    found = {name: cursor_of(toy, name) for name in changed}
    assert {name: each.position for name, each in found.items()} == {
        "before all": 0,
        "between": 2,
        "with the last": 2,
        "just after the last": 2,
        "yet to come": 3,
    }
    assert set(found.values()) == {HookCursor(n, 0, None, None, None, None, None) for n in (0, 2, 3)}
    assert names(toy) == sorted([*changed, "chat"])
    assert cursor_of(toy) == HookCursor(0, 0, None, None, None, None, None)


def test_missing_hook_keeps_its_letters_for_ten_minutes(toy: BusFixture) -> None:
    fail(toy, 5)
    gone_since = to_rfc3339(toy.clock.now())
    keep_up(toy, {"mail": toy.clock.now()})
    assert cursor_of(toy).missing_since == gone_since
    toy.clock.advance(minutes=9, seconds=59)
    keep_up(toy, {"mail": toy.clock.now()})
    assert cursor_of(toy).missing_since == gone_since
    assert cursor_of(toy, "mail").missing_since is None
    assert [sequence for _, sequence, *_ in letters(toy)] == [1]
    toy.clock.advance(seconds=1)
    keep_up(toy, {"mail": toy.clock.now()})
    assert names(toy) == ["mail"]
    assert letters(toy) == []


def test_hook_restored_in_time_resumes_at_its_position(toy: BusFixture) -> None:
    after(toy, hook_cursors.mark_done, claimed(toy))
    keep_up(toy, {})
    toy.clock.advance(minutes=5)
    keep_up(toy, {"chat": toy.clock.now()})
    assert (cursor_of(toy).position, cursor_of(toy).missing_since) == (1, None)


def test_removing_one_hook_leaves_letters_of_others(toy: BusFixture) -> None:
    keep_up(toy, {"chat": toy.clock.now(), "mail": toy.clock.now()})
    fail(toy, 5)
    toy.execute(
        "INSERT INTO bus_hook_letters SELECT 'mail', sequence, state, attempts, error, since FROM bus_hook_letters"
    )
    keep_up(toy, {"mail": toy.clock.now()})
    toy.clock.advance(minutes=11)
    keep_up(toy, {"mail": toy.clock.now()})
    assert names(toy) == ["mail"]
    assert [hook for hook, *_ in letters(toy)] == ["mail"]


def test_sync_is_needed_if_a_hook_was_added_or_removed(toy: BusFixture) -> None:
    now = toy.clock.now()
    asked = [{"chat": now}, {"mail": now}, {}, {"chat": now, "mail": now}]
    assert [after(toy, hook_cursors.needs_sync, files) for files in asked] == [False, True, True, True]
    keep_up(toy, {})
    assert after(toy, hook_cursors.needs_sync, {"chat": now})


def test_claimed_event_is_leased_until_expiry(toy: BusFixture) -> None:
    now = toy.clock.now()
    (first, _) = [row["envelope"] for row in toy.rows("SELECT envelope FROM bus_log ORDER BY sequence")]
    own = claimed(toy)
    assert own == ClaimedEvent("chat", 1, str(first), 0, to_rfc3339(now + LEASE), False)
    assert cursor_of(toy) == HookCursor(0, 0, None, to_rfc3339(now + LEASE), None, to_rfc3339(now), None)
    toy.clock.instant = now + LEASE - TICK
    assert claim(toy) is None
    assert hook_cursors.is_leased(cursor_of(toy), toy.clock.now(), LEASE)
    toy.clock.instant = now + LEASE
    assert not hook_cursors.is_leased(cursor_of(toy), toy.clock.now(), LEASE)
    assert claimed(toy).sequence == 1


def test_lease_longer_than_the_maximum_is_void(toy: BusFixture) -> None:
    now = toy.clock.now()
    claimed(toy)
    toy.clock.instant = now - TICK
    assert claimed(toy).sequence == 1


def test_unknown_hook_has_no_event(toy: BusFixture) -> None:
    assert claim(toy, name="mail") is None


def test_only_events_of_its_types_are_for_a_hook(toy: BusFixture) -> None:
    with held(toy) as context:
        context.events.publish(UserDeactivated(user_id="ann"))
    assert claimed(toy, DEACTIVATED).sequence == 3
    toy.clock.advance(minutes=1)
    assert claimed(toy, [*DEACTIVATED, *REGISTERED]).sequence == 1
    toy.clock.advance(minutes=1)
    assert claimed(toy, None).sequence == 1
    counted = {types: after(toy, hook_cursors.count_pending, 1, types) for types in (None, tuple(REGISTERED), ())}
    assert counted == {None: 2, tuple(REGISTERED): 1, (): 0}


def test_last_event_of_some_types_or_of_any_is_found(toy: BusFixture) -> None:
    with held(toy) as context:
        context.events.publish(UserDeactivated(user_id="ann"))
    asked: list[hook_cursors.Types] = [None, REGISTERED, DEACTIVATED, ["none"]]
    found = [after(toy, hook_cursors.last_event, types) for types in asked]
    with held(toy) as context:
        second, third = [(sequence, context.log.row_at(sequence)[-1]) for sequence in (2, 3)]
    assert found == [third, second, third, None]


@pytest.mark.parametrize(("events", "moves"), [(FAR - 1, False), (FAR, True)])
def test_idle_cursor_far_behind_moves_to_the_end(toy: BusFixture, events: int, moves: bool) -> None:
    toy.publish(*["kim"] * (events - 2))
    assert after(toy, hook_cursors.is_due, "chat", DEACTIVATED, LEASE) is moves
    assert claim(toy, DEACTIVATED) is None
    assert cursor_of(toy) == HookCursor(events if moves else 0, 0, None, None, None, None, None)


def test_done_event_advances_the_cursor_and_clears_failures(toy: BusFixture) -> None:
    fail(toy)
    assert cursor_of(toy).last_error == "no answer"
    toy.clock.advance(hours=2)
    after(toy, hook_cursors.mark_done, claimed(toy))
    assert cursor_of(toy) == HookCursor(1, 0, None, None, None, to_rfc3339(toy.clock.now()), None)
    assert claimed(toy).sequence == 2


def test_failure_backs_off_and_is_due_at_the_instant(toy: BusFixture) -> None:
    now = toy.clock.now()
    assert after(toy, hook_cursors.mark_failed, claimed(toy), "x" * 501) is False
    found = cursor_of(toy)
    assert (found.position, found.attempts, found.lease_until, found.last_error) == (0, 1, None, "x" * 500)
    assert found.due_at is not None
    due = from_rfc3339(found.due_at)
    assert timedelta(seconds=5) <= due - now <= timedelta(seconds=10)
    toy.clock.instant = due - TICK
    assert claim(toy) is None
    toy.clock.instant = due
    again = claimed(toy)
    assert (again.sequence, again.attempts) == (1, 1)


def test_wait_longer_than_the_maximum_is_void(toy: BusFixture) -> None:
    fail(toy)
    toy.execute(f"UPDATE bus_hooks SET due_at = '{to_rfc3339(toy.clock.now() + timedelta(seconds=3600))}'")
    assert claim(toy) is None
    toy.clock.instant -= TICK
    assert claimed(toy).sequence == 1


def test_event_is_a_dead_letter_after_five_failures(toy: BusFixture) -> None:
    assert fail(toy, 5) == [False, False, False, False, True]
    now = to_rfc3339(toy.clock.now())
    assert letters(toy) == [("chat", 1, "dead", 5, "no answer", now)]
    assert cursor_of(toy) == HookCursor(1, 0, None, None, None, now, None)
    assert claimed(toy).sequence == 2


def test_requeued_dead_letters_are_claimed_first(toy: BusFixture) -> None:
    fail(toy, 10)
    toy.publish("kim")
    fail(toy)
    assert claim(toy) is None
    toy.execute("INSERT INTO bus_hook_letters VALUES ('mail', 3, 'dead', 5, 'no', '')")
    assert after(toy, hook_cursors.requeue_dead_letters, "chat") == 2
    assert cursor_of(toy).due_at is None
    assert [(hook, state) for hook, _, state, *_ in letters(toy)] == [
        ("chat", "queued"),
        ("chat", "queued"),
        ("mail", "dead"),
    ]
    first = claimed(toy)
    assert (first.sequence, first.is_dead_letter) == (1, True)
    after(toy, hook_cursors.mark_done, first)
    assert [sequence for _, sequence, *_ in letters(toy)] == [2, 3]
    second = claimed(toy)
    assert (second.sequence, second.is_dead_letter) == (2, True)
    assert after(toy, hook_cursors.mark_failed, second, "y" * 501) is True
    assert letters(toy)[0][:5] == ("chat", 2, "dead", 6, "y" * 500)
    assert cursor_of(toy).position == 2
    assert claimed(toy).sequence == 3


def test_letter_is_due_while_the_next_event_waits(toy: BusFixture) -> None:
    fail(toy, 5)
    after(toy, hook_cursors.requeue_dead_letters, "chat")
    toy.execute(f"UPDATE bus_hooks SET due_at = '{to_rfc3339(toy.clock.now() + LEASE)}'")
    assert claimed(toy).sequence == 1


def test_letters_are_counted_with_the_last_error(toy: BusFixture) -> None:
    assert after(toy, hook_cursors.dead_letters_of, "chat") == (0, 0, None)
    toy.execute(
        "INSERT INTO bus_hook_letters VALUES ('chat', 1, 'dead', 5, 'late', '2026-02'),"
        " ('chat', 2, 'dead', 5, 'early', '2026-01'), ('chat', 3, 'queued', 5, 'earlier', '2026-01'),"
        " ('mail', 4, 'dead', 5, 'of another', '2026-03')"
    )
    assert after(toy, hook_cursors.dead_letters_of, "chat") == (2, 1, "late")


def fails(context: Context, late: ClaimedEvent) -> bool:
    return hook_cursors.mark_failed(context, late, "no answer")


@pytest.mark.parametrize("act", [hook_cursors.mark_done, hook_cursors.release, fails])
def test_runner_with_expired_lease_changes_nothing(
    toy: BusFixture, act: Callable[[Context, ClaimedEvent], object]
) -> None:
    late = claimed(toy)
    toy.clock.advance(minutes=1)
    claimed(toy)
    before = cursor_of(toy)
    assert not after(toy, act, late)
    assert cursor_of(toy) == before
    assert letters(toy) == []


def test_released_event_has_its_earlier_state(toy: BusFixture) -> None:
    fail(toy)
    toy.clock.advance(hours=2)
    before = cursor_of(toy)
    after(toy, hook_cursors.release, claimed(toy))
    assert cursor_of(toy) == before._replace(last_run_at=to_rfc3339(toy.clock.now()))


def test_hooks_do_not_touch_each_other(toy: BusFixture) -> None:
    keep_up(toy, {"chat": toy.clock.now(), "mail": toy.clock.now() - timedelta(days=1)})
    before = cursor_of(toy, "mail")
    fail(toy, 6)
    after(toy, hook_cursors.requeue_dead_letters, "chat")
    after(toy, hook_cursors.mark_done, claimed(toy))
    after(toy, hook_cursors.release, claimed(toy))
    assert cursor_of(toy, "mail") == before

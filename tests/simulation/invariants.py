"""The invariants of a world: the cheap ones after each step, all of them every few steps."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from popug_cli.audit.doctor import examine as doctor
from popug_cli.audit.shared_database import server_checks, snapshot_as_file
from popug_cli.messages.principal import ANONYMOUS
from tests.simulation.injected_faults import PLANNED
from tests.simulation.model import Task
from tests.simulation.violation import require

if TYPE_CHECKING:
    from tests.simulation.world import World
NOT_TRIED_YET = "waits"


def watch(world: "World") -> None:
    """Check the cheap invariants, by the new events of the log and the small tables."""
    world.follow_log()
    _watch_balances(world)
    _watch_tasks(world)
    _watch_cursors(world)
    _watch_set_aside(world)


def compare_tables(world: "World") -> None:
    """Compare all tasks and users with their events."""
    held = world.rows("SELECT task_id, number, assignee_id, status = 'completed' FROM tasks_tasks ORDER BY number")
    told = [(t.task_id, t.number, t.assignee_id, int(t.completed)) for t in world.model.numbers]
    require(held == told, "tasks_match_events", _first_difference(held, told))
    people = world.rows("SELECT user_id, role, active, email FROM identity_users ORDER BY registered_at, user_id")
    known = {(p.user_id, p.role, int(p.active), p.email) for p in world.model.people.values()}
    require(set(people) == known, "people_match_events", set(people) ^ known)


def examine(world: "World") -> None:
    """Run the doctor's whole examination, after the consumers have caught up as before any doctor's."""
    world.until_done(world.backend.catch_up)
    runtime = world.backend.runtime
    with runtime.reading(ANONYMOUS) as context, snapshot_as_file(runtime, context) as copy:
        checks = [*doctor(copy).checks]
        if runtime.database.is_shared:
            on_server = server_checks(context, copy, runtime.database.address)
            replaced = {check.name for check in on_server}
            checks = [*(check for check in checks if check.name not in replaced), *on_server]
    bad = [f"{check.name}: {check.detail}" for check in checks if not check.ok]
    require(not bad, "doctor", bad)


def dropped(world: "World") -> set[str]:
    """Return the ids of the events that billing will never consume."""
    statement = "SELECT bus_log.id FROM bus_log JOIN bus_set_aside USING (sequence) WHERE consumer = 'billing'"
    return {event_id for (event_id,) in world.rows(statement)}


def _watch_balances(world: "World") -> None:
    accounts = dict(world.rows("SELECT account_id, balance_cents FROM billing_accounts"))
    require(sum(accounts.values()) == 0, "accounts_sum_to_zero", accounts)
    told = {account: cents for account, cents in world.model.balances.items() if cents}
    kept = {account: cents for account, cents in accounts.items() if cents}
    require(kept == told, "balances_equal_entries", f"{kept} where the entries say {told}")
    entries = world.rows("SELECT coalesce(max(position), 0) FROM billing_entries")[0][0]
    require(entries == world.model.entries, "entries_match_events", f"{entries} and {world.model.entries}")


def _watch_tasks(world: "World") -> None:
    for task_id in world.model.touched:
        task = world.model.tasks[task_id]
        row = world.rows("SELECT assignee_id, status FROM tasks_tasks WHERE number = ?", (task.number,))
        require(row == [_held(task)], "tasks_match_events", f"#{task.number}: {row}, told {_held(task)}")
    world.model.touched.clear()


def _watch_cursors(world: "World") -> None:
    cursors = dict(world.rows("SELECT consumer, position FROM bus_cursors"))
    require(max(cursors.values(), default=0) <= world.model.sequence, "cursors_within_log", cursors)
    if world.model.pending and cursors.get("billing", 0) >= world.model.last_for_billing:
        held = world.rows("SELECT 1 FROM bus_set_aside WHERE consumer = 'billing' LIMIT 1")
        require(bool(held), "nothing_is_lost", world.model.pending)


def _watch_set_aside(world: "World") -> None:
    heads: set[tuple[str, str]] = set()
    for consumer, subject, state, error in world.rows(
        "SELECT consumer, subject, state, error FROM bus_set_aside WHERE state <> 'dropped' ORDER BY sequence"
    ):
        is_head = (consumer, subject) not in heads
        require(is_head == (state != "waiting"), "heads_hold_up_the_rest", f"{consumer}: {state} of {subject}")
        require(
            not is_head or PLANNED in error or error == NOT_TRIED_YET,
            "consumers_fail_when_told",
            f"{consumer}: {error}",
        )
        heads.add((consumer, subject))


def _held(task: Task) -> tuple[str, str]:
    return task.assignee_id, "completed" if task.completed else "open"


def _first_difference(one: Sequence[object], other: Sequence[object]) -> str:
    pairs = ((a, b) for a, b in zip(one, other, strict=False) if a != b)
    return str(next(pairs, f"{len(one)} and {len(other)} rows"))

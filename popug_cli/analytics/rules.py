"""The rules of analytics: how events add up; pure functions. Those of the most expensive task are in ``messages``."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime

from popug_cli.messages.base import Event
from popug_cli.messages.billing import DayClosed, EntryKind, EntryPosted, TaskPriced
from popug_cli.messages.identity import UserRegistered
from popug_cli.messages.tasks import TaskCompleted, TaskCreated


@dataclass(slots=True)
class TaskColumns:
    """The columns of a task that a batch of events sets; the others are None."""

    number: int | None = None
    title: str | None = None
    reward_cents: int | None = None
    completed_at: datetime | None = None
    business_date: date | None = None


@dataclass(slots=True)
class DaySums:
    """Fees and rewards of a business date in cents, net of reversals."""

    fees_cents: int = 0
    rewards_cents: int = 0


@dataclass(slots=True)
class Changes:
    """The sums of a batch of events.

    ``people`` are the registered users, ``balances`` the changes in cents by (business date, user). ``closed`` is the
    number of users in the red by closed date. ``days`` are keyed by business date, ``tasks`` by task id.
    """

    people: set[str] = field(default_factory=set)
    balances: defaultdict[tuple[date, str], int] = field(default_factory=lambda: defaultdict(int))
    days: defaultdict[date, DaySums] = field(default_factory=lambda: defaultdict(DaySums))
    closed: dict[date, int] = field(default_factory=dict)
    tasks: defaultdict[str, TaskColumns] = field(default_factory=lambda: defaultdict(TaskColumns))


def accumulate(events: Iterable[Event], changes: Changes | None = None) -> Changes:
    """Add up events, in any order, to ``changes`` if there are any, and return the sums.

    Raise ``AssertionError`` for an event that analytics does not consume.
    """
    changes = changes or Changes()
    for event in events:
        _apply(event, changes)
    return changes


def _apply(event: Event, changes: Changes) -> None:
    match event:
        case EntryPosted():
            _apply_entry(event, changes)
        case TaskCreated():
            task = changes.tasks[event.task_id]
            task.number, task.title = event.number, event.title
        case TaskPriced():
            changes.tasks[event.task_id].reward_cents = event.reward_cents
        case TaskCompleted():
            changes.tasks[event.task_id].completed_at = event.completed_at
        case UserRegistered():
            changes.people.add(event.user_id)
        case DayClosed():
            changes.closed[event.business_date] = event.in_red_count
        case _:
            raise AssertionError(f"analytics does not subscribe to {event.NAME}")


def _apply_entry(entry: EntryPosted, changes: Changes) -> None:
    kind, day = entry.kind, entry.business_date
    changes.balances[day, entry.user_id] += kind.balance_sign * entry.amount_cents
    sums = changes.days[day]
    sums.fees_cents += kind.fee_sign * entry.amount_cents
    sums.rewards_cents += kind.reward_sign * entry.amount_cents
    if kind is EntryKind.REWARD and entry.task_id is not None:
        changes.tasks[entry.task_id].business_date = day

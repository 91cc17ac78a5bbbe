"""The rules of analytics: how events add up, the periods, and the most expensive task; pure functions."""

from calendar import monthrange
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from popug_cli.messages.base import Event
from popug_cli.messages.billing import DayClosed, EntryKind, EntryPosted, TaskPriced
from popug_cli.messages.identity import UserRegistered
from popug_cli.messages.tasks import TaskCompleted, TaskCreated

Period = tuple[date, date]


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


@dataclass(frozen=True, slots=True, order=True)
class MostExpensiveCandidate:
    """The most expensive task of a business date; a more expensive candidate sorts before a cheaper one."""

    minus_reward_cents: int
    completed_at: datetime
    number: int
    title: str = field(compare=False)
    business_date: date = field(compare=False)


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


def week_of(day: date) -> Period:
    """Return the Monday and the Sunday of the ISO week around a date."""
    monday = day - timedelta(days=day.weekday())
    return monday, date.fromordinal(min(monday.toordinal() + 6, date.max.toordinal()))


def month_of(day: date) -> Period:
    """Return the first and the last date of the calendar month around a date."""
    return day.replace(day=1), day.replace(day=monthrange(day.year, day.month)[1])


def periods_around(day: date) -> Period:
    """Return the shortest period that contains the week and the month around a date."""
    week, month = week_of(day), month_of(day)
    return min(week[0], month[0]), max(week[1], month[1])


def most_expensive(candidates: Sequence[MostExpensiveCandidate], period: Period) -> MostExpensiveCandidate | None:
    """Return the candidate with the highest reward in a period, or None.

    On a tie, return the one completed first, then the one with the lowest number.
    """
    first, last = period
    return min((candidate for candidate in candidates if first <= candidate.business_date <= last), default=None)

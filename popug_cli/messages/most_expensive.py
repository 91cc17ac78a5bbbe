"""The most expensive tasks of the periods around a date, from those of the single dates; pure functions.

Two modules answer this: analytics from its read model, and billing as of an instant from the ledger.
"""

from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from popug_cli.messages.analytics import MostExpensive, MostExpensiveTask
from popug_cli.messages.billing import TaskRef

Period = tuple[date, date]


@dataclass(frozen=True, slots=True, order=True)
class MostExpensiveCandidate:
    """The most expensive task of a business date; a more expensive candidate sorts before a cheaper one."""

    minus_reward_cents: int
    completed_at: datetime
    number: int
    title: str = field(compare=False)
    business_date: date = field(compare=False)


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


def most_expensive_tasks(day: date, candidates: Sequence[MostExpensiveCandidate]) -> MostExpensive:
    """Return the most expensive task of a date, its week, its month, and each date of the month up to it.

    ``candidates`` are the most expensive tasks of the single dates of that week and month.
    """
    week, month = week_of(day), month_of(day)
    to_date = (month[0], day)
    in_month = sorted(
        (candidate for candidate in candidates if month[0] <= candidate.business_date <= day), key=_date, reverse=True
    )
    return MostExpensive(
        day=_most_expensive_of(candidates, (day, day)),
        week=_most_expensive_of(candidates, week),
        month=_most_expensive_of(candidates, month),
        month_to_date=_most_expensive_of(candidates, to_date),
        by_day=[task_of(candidate, (candidate.business_date, candidate.business_date)) for candidate in in_month],
    )


def _date(candidate: MostExpensiveCandidate) -> date:
    return candidate.business_date


def _most_expensive_of(candidates: Sequence[MostExpensiveCandidate], period: Period) -> MostExpensiveTask | None:
    candidate = most_expensive(candidates, period)
    return task_of(candidate, period) if candidate else None


def task_of(candidate: MostExpensiveCandidate, period: Period) -> MostExpensiveTask:
    """Return a candidate as the most expensive task of a period."""
    return MostExpensiveTask(
        from_date=period[0],
        to_date=period[1],
        task=TaskRef(candidate.number, candidate.title),
        reward_cents=-candidate.minus_reward_cents,
    )

"""Messages of analytics."""

from datetime import date

import msgspec

from popug_cli.messages.base import ADMINS, Instant, Query, declare
from popug_cli.messages.billing import TaskRef


class MostExpensiveTask(msgspec.Struct, frozen=True):
    """The completed task with the highest reward of a period."""

    from_date: date = msgspec.field(name="from")
    to_date: date = msgspec.field(name="to")
    task: TaskRef
    reward_cents: int


class MostExpensive(msgspec.Struct, frozen=True):
    """The most expensive completed tasks of the day, the ISO week and the month, and of each day, latest first.

    ``month_to_date`` is the most expensive task of all days in ``by_day``.
    """

    day: MostExpensiveTask | None
    week: MostExpensiveTask | None
    month: MostExpensiveTask | None
    month_to_date: MostExpensiveTask | None
    by_day: list[MostExpensiveTask]


class Analytics(msgspec.Struct, frozen=True):
    """The figures of a business date for management."""

    business_date: date
    income_cents: int
    in_red_count: int
    most_expensive: MostExpensive


@declare("analytics", roles=ADMINS)
class GetAnalytics(Query[Analytics], frozen=True, kw_only=True):
    """Return the figures of a date, today by default."""

    day: date | None = None
    as_of_time: Instant | None = None

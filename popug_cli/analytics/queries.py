"""The query of analytics: the figures of a date, and the most expensive tasks of its day, week and month."""

from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

from popug_cli.bus.context import Context
from popug_cli.kernel.clock import from_rfc3339
from popug_cli.kernel.stored_values import from_iso_date
from popug_cli.messages.analytics import Analytics, GetAnalytics
from popug_cli.messages.internal.analytics import GetMostExpensiveTask, TopTask
from popug_cli.messages.most_expensive import (
    MostExpensiveCandidate,
    Period,
    most_expensive_tasks,
    periods_around,
    task_of,
)

SELECT_MOST_EXPENSIVE_BY_DAY = """
    SELECT task.business_date, task.reward_cents, task.completed_at, task.number, task.title
    FROM analytics_days AS day
    JOIN analytics_tasks AS task ON task.task_id = (
        SELECT best.task_id FROM analytics_tasks AS best
        WHERE best.business_date = day.business_date AND best.business_date IS NOT NULL
            AND best.reward_cents IS NOT NULL AND best.completed_at IS NOT NULL AND best.number IS NOT NULL
        ORDER BY best.reward_cents DESC, best.completed_at, best.number LIMIT 1
    )
    WHERE day.business_date BETWEEN :first AND :last
"""
COUNT_IN_RED_NOW = "SELECT count(*) FROM analytics_people WHERE balance_cents < 0"
COUNT_IN_RED_AT_DAY_END = """
    SELECT count(*) FROM analytics_people AS person
    LEFT JOIN (
        SELECT user_id, sum(change_cents) AS later_cents FROM analytics_balance_changes
        WHERE business_date > :day GROUP BY user_id
    ) AS change ON change.user_id = person.user_id
    WHERE person.balance_cents - coalesce(change.later_cents, 0) < 0
"""


class Figures(NamedTuple):
    """The stored figures of a business date; ``in_red_count`` is None until the date is closed."""

    income_cents: int
    in_red_count: int | None


def get_analytics(message: GetAnalytics, context: Context) -> Analytics:
    """Return the figures of a business date, today by default."""
    assert message.as_of_time is None, "only the ledger has the time at which an entry was recorded"
    today = context.calendar.date_of(context.now)
    day = message.day or today
    figures = _figures(day, context)
    in_red_at_close = figures.in_red_count
    return Analytics(
        business_date=day,
        income_cents=figures.income_cents,
        in_red_count=_in_red(day, today, context) if in_red_at_close is None else in_red_at_close,
        most_expensive=most_expensive_tasks(day, list(_candidates(periods_around(day), context))),
    )


def get_most_expensive_task(message: GetMostExpensiveTask, context: Context) -> TopTask:
    """Return the completed task with the highest reward of a business date."""
    day = (message.day, message.day)
    return TopTask(next((task_of(candidate, day) for candidate in _candidates(day, context)), None))


def _figures(day: date, context: Context) -> Figures:
    statement = "SELECT fees_cents - rewards_cents, in_red_count FROM analytics_days WHERE business_date = :day"
    row = context.connection.select_one(statement, day=day.isoformat())
    return Figures(*row) if row else Figures(0, None)


def _in_red(day: date, today: date, context: Context) -> int:
    """Return how many users are below zero now or, for a date before today, at its end."""
    statement, parameters = (
        (COUNT_IN_RED_NOW, {}) if day >= today else (COUNT_IN_RED_AT_DAY_END, {"day": day.isoformat()})
    )
    return int(context.connection.scalar(statement, **parameters))


def _candidates(period: Period, context: Context) -> Iterator[MostExpensiveCandidate]:
    parameters = {"first": period[0].isoformat(), "last": period[1].isoformat()}
    for row in context.connection.records(SELECT_MOST_EXPENSIVE_BY_DAY, **parameters):
        yield MostExpensiveCandidate(
            minus_reward_cents=-row["reward_cents"],
            completed_at=from_rfc3339(row["completed_at"]),
            number=row["number"],
            title=row["title"],
            business_date=from_iso_date(row["business_date"]),
        )

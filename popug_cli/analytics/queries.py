"""What may be asked of analytics."""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import NamedTuple

from sqlalchemy import text

from popug_cli.analytics import rules
from popug_cli.analytics.rules import Candidate, Period
from popug_cli.bus.runtime import Context
from popug_cli.kernel.clock import parse_stamp
from popug_cli.messages.analytics import Analytics, Dearest, GetAnalytics, MostExpensive
from popug_cli.messages.billing import TaskRef

DEAREST_BY_DAY = """
    SELECT task.business_date, task.reward_cents, task.completed_at, task.number, task.title
    FROM analytics_days AS day
    JOIN analytics_tasks AS task ON task.task_id = (
        SELECT each.task_id FROM analytics_tasks AS each
        WHERE each.business_date = day.business_date AND each.business_date IS NOT NULL
            AND each.reward_cents IS NOT NULL AND each.completed_at IS NOT NULL AND each.number IS NOT NULL
        ORDER BY each.reward_cents DESC, each.completed_at, each.number LIMIT 1
    )
    WHERE day.business_date BETWEEN :first AND :last
"""
IN_RED_NOW = "SELECT count(*) FROM analytics_people WHERE balance_cents < 0"
IN_RED_AT_THE_END = """
    SELECT count(*) FROM analytics_people AS person
    LEFT JOIN (
        SELECT user_id, sum(change_cents) AS later_cents FROM analytics_balance_changes
        WHERE business_date > :day GROUP BY user_id
    ) AS change ON change.user_id = person.user_id
    WHERE person.balance_cents - coalesce(change.later_cents, 0) < 0
"""


class Figures(NamedTuple):
    """What is kept of a business date."""

    income_cents: int
    in_red_count: int | None


def get_analytics(message: GetAnalytics, context: Context) -> Analytics:
    """The figures of a business date, today by default."""
    assert message.as_of_time is None, "only the ledger knows when something was recorded"
    today = context.calendar.date_of(context.now)
    day = message.day or today
    figures = _figures(day, context)
    at_the_close = figures.in_red_count
    return Analytics(
        business_date=day,
        income_cents=figures.income_cents,
        in_red_count=_in_red(day, today, context) if at_the_close is None else at_the_close,
        most_expensive=most_expensive(day, list(_candidates(rules.periods_around(day), context))),
    )


def _figures(day: date, context: Context) -> Figures:
    statement = text("SELECT fees_cents - rewards_cents, in_red_count FROM analytics_days WHERE business_date = :day")
    row = context.connection.execute(statement, {"day": day.isoformat()}).first()
    return Figures(*row) if row else Figures(0, None)


def _in_red(day: date, today: date, context: Context) -> int:
    """How many are below zero now or, for a past date that is still open, at its end."""
    statement, parameters = (IN_RED_NOW, {}) if day >= today else (IN_RED_AT_THE_END, {"day": day.isoformat()})
    return int(context.connection.execute(text(statement), parameters).scalar_one())


def most_expensive(day: date, found: Sequence[Candidate]) -> MostExpensive:
    """The dearest tasks around a date, from the dearest one of each date of its week and month."""
    week, month = rules.week_of(day), rules.month_of(day)
    to_date = (month[0], day)
    in_month = sorted((each for each in found if month[0] <= each.business_date <= day), key=_date, reverse=True)
    return MostExpensive(
        day=_dearest(found, (day, day)),
        week=_dearest(found, week),
        month=_dearest(found, month),
        month_to_date=_dearest(found, to_date),
        by_day=[_answer(each, (each.business_date, each.business_date)) for each in in_month],
    )


def _date(candidate: Candidate) -> date:
    return candidate.business_date


def _candidates(period: Period, context: Context) -> Iterator[Candidate]:
    parameters = {"first": period[0].isoformat(), "last": period[1].isoformat()}
    for row in context.connection.execute(text(DEAREST_BY_DAY), parameters):
        yield Candidate(
            minus_reward_cents=-row.reward_cents,
            completed_at=parse_stamp(row.completed_at),
            number=row.number,
            title=row.title,
            business_date=date.fromisoformat(row.business_date),
        )


def _dearest(candidates: Sequence[Candidate], period: Period) -> Dearest | None:
    found = rules.dearest(candidates, period)
    return _answer(found, period) if found else None


def _answer(found: Candidate, period: Period) -> Dearest:
    return Dearest(
        from_date=period[0],
        to_date=period[1],
        task=TaskRef(found.number, found.title),
        reward_cents=-found.minus_reward_cents,
    )

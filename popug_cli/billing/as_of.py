"""Bitemporal queries: the figures of a business date, computed from what was recorded by the instant ``as_of``."""

from datetime import date, datetime
from typing import NamedTuple

from sqlalchemy import text

from popug_cli.billing.balances import closed_by, open_day_movements
from popug_cli.billing.day_figures import company_days, recorded_day
from popug_cli.billing.rules import open_figures
from popug_cli.bus.context import Context
from popug_cli.kernel.clock import from_rfc3339, to_rfc3339

SELECT_HIGHEST_REWARD_BY_DAY = text(
    "SELECT business_date, amount_cents, occurred_at, number, title FROM ("
    " SELECT e.business_date, e.amount_cents, e.occurred_at, t.number, t.title, row_number() OVER ("
    " PARTITION BY e.business_date ORDER BY e.amount_cents DESC, e.occurred_at, t.number) AS place"
    " FROM billing_accounts a CROSS JOIN billing_entries e JOIN billing_tasks t ON t.task_id = e.task_id"
    " WHERE e.employee_id = a.account_id AND e.business_date BETWEEN :first AND :last AND e.kind = 'reward'"
    " AND e.recorded_at <= :as_of AND t.number IS NOT NULL) AS ranked WHERE place = 1 ORDER BY business_date"
)


class HighestReward(NamedTuple):
    """The highest reward of a business date, with its task."""

    business_date: date
    reward_cents: int
    completed_at: datetime
    number: int
    title: str


def income_as_of(day: date, as_of: datetime, context: Context) -> int:
    """Return management's income of a business date in cents; 0 for a date outside the company's days."""
    return sum(day_figures.income_cents for day_figures in company_days(day, day, as_of, context))


def in_red_as_of(day: date, as_of: datetime, context: Context) -> int:
    """Return how many employees were below zero: for a past date at its end, else with all recorded entries."""
    closed = closed_by(as_of, context)
    if closed is not None and day <= closed:
        recorded = recorded_day(day, context)
        return recorded.in_red_count if recorded else 0
    before = recorded_day(closed, context) if closed else None
    in_red_count = before.in_red_count if before else 0
    figures_by_day = open_figures(open_day_movements(closed, as_of, context), in_red_count)
    is_past = day < context.calendar.date_of(as_of)
    latest = max((open_day for open_day in figures_by_day if open_day <= day or not is_past), default=None)
    return figures_by_day[latest].in_red_count if latest else in_red_count


def highest_reward_by_day(first: date, last: date, as_of: datetime, context: Context) -> list[HighestReward]:
    """Return the highest reward of each business date that has one; on a tie, that of the earliest completion."""
    parameters = {"first": first.isoformat(), "last": last.isoformat(), "as_of": to_rfc3339(as_of)}
    return [
        HighestReward(date.fromisoformat(day), cents, from_rfc3339(completed_at), number, title)
        for day, cents, completed_at, number, title in context.connection.execute(
            SELECT_HIGHEST_REWARD_BY_DAY, parameters
        )
    ]

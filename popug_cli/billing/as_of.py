"""Bitemporal queries: the company's figures of a business date, computed from what was recorded by an instant.

The balance of one account as of an instant is in ``balances.balance_at``.
"""

from datetime import date, datetime

from popug_cli.billing.balances import closed_by, open_day_movements
from popug_cli.billing.day_figures import company_days, recorded_day
from popug_cli.billing.rules import open_figures
from popug_cli.bus.context import Context
from popug_cli.kernel.clock import from_rfc3339, to_rfc3339
from popug_cli.kernel.stored_values import from_iso_date
from popug_cli.messages.analytics import Analytics
from popug_cli.messages.internal.billing import GetAnalyticsAsOf
from popug_cli.messages.most_expensive import MostExpensiveCandidate, most_expensive_tasks, periods_around

SELECT_HIGHEST_REWARD_BY_DAY = (
    "SELECT business_date, amount_cents, occurred_at, number, title FROM ("
    " SELECT entry.business_date, entry.amount_cents, entry.occurred_at, task.number, task.title, row_number() OVER ("
    " PARTITION BY entry.business_date ORDER BY entry.amount_cents DESC, entry.occurred_at, task.number) AS reward_rank"
    " FROM billing_accounts account CROSS JOIN billing_entries entry"
    " JOIN billing_tasks task ON task.task_id = entry.task_id"
    " WHERE entry.employee_id = account.account_id AND entry.business_date BETWEEN :first AND :last"
    " AND entry.kind = 'reward' AND entry.recorded_at <= :as_of AND task.number IS NOT NULL"
    ") AS ranked WHERE reward_rank = 1 ORDER BY business_date"
)


def get_analytics_as_of(message: GetAnalyticsAsOf, context: Context) -> Analytics:
    """Return the figures of a date as the ledger had them at an instant."""
    as_of = message.as_of_time
    day = message.day or context.calendar.date_of(as_of)
    return Analytics(
        business_date=day,
        income_cents=income_as_of(day, as_of, context),
        in_red_count=in_red_as_of(day, as_of, context),
        most_expensive=most_expensive_tasks(day, highest_reward_by_day(*periods_around(day), as_of, context)),
    )


def income_as_of(day: date, as_of: datetime, context: Context) -> int:
    """Return management's income of a business date in cents, as it was recorded by ``as_of``.

    It is 0 for a date outside the company's days.
    """
    return sum(day_figures.income_cents for day_figures in company_days(day, day, as_of, context))


def in_red_as_of(day: date, as_of: datetime, context: Context) -> int:
    """Return how many employees were below zero, as it was recorded by the instant ``as_of``.

    The number is that at the end of ``day``. If ``day`` was still open then and is not before the date of ``as_of``,
    entries with a later business date count too.
    """
    closed = closed_by(as_of, context)
    if closed is not None and day <= closed:
        recorded = recorded_day(day, context)
        return recorded.in_red_count if recorded else 0
    last_closed_day = recorded_day(closed, context) if closed else None
    in_red_count = last_closed_day.in_red_count if last_closed_day else 0
    figures_by_day = open_figures(open_day_movements(closed, as_of, context), in_red_count)
    is_past = day < context.calendar.date_of(as_of)
    latest = max((open_day for open_day in figures_by_day if open_day <= day or not is_past), default=None)
    return figures_by_day[latest].in_red_count if latest else in_red_count


def highest_reward_by_day(first: date, last: date, as_of: datetime, context: Context) -> list[MostExpensiveCandidate]:
    """Return the highest reward that each business date had by ``as_of``; on a tie, that of the earliest completion."""
    parameters = {"first": first.isoformat(), "last": last.isoformat(), "as_of": to_rfc3339(as_of)}
    return [
        MostExpensiveCandidate(-cents, from_rfc3339(completed_at), number, title, from_iso_date(day))
        for day, cents, completed_at, number, title in context.connection.select(
            SELECT_HIGHEST_REWARD_BY_DAY, **parameters
        )
    ]

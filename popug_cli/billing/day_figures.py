"""The figures of days: recorded for closed days, computed for open days."""

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any

from popug_cli.billing.balances import closed_by, open_day_movements
from popug_cli.billing.days import first_day, last_closed
from popug_cli.billing.rules import day_by_day, open_figures
from popug_cli.bus.context import Context
from popug_cli.kernel.stored_values import from_iso_date
from popug_cli.messages.billing import Day


def company_days(first: date, last: date, as_of: datetime | None, context: Context) -> list[Day]:
    """Return the company's days in a range, oldest first, up to the later of today and the last day with entries.

    With ``as_of``, its date counts as today, and the figures are computed from what was recorded by that instant.
    """
    company_start = first_day(context)
    if company_start is None:
        return []
    first = max(first, company_start)
    closed = last_closed(context) if as_of is None else closed_by(as_of, context)
    if closed is None:
        return [*_open_days(first, last, None, as_of, context)]
    closed_days = recorded_days(first, min(last, closed), context)
    if last <= closed:
        return closed_days
    return [*closed_days, *_open_days(max(first, context.calendar.next_day(closed)), last, closed, as_of, context)]


def recorded_days(first: date, last: date, context: Context) -> list[Day]:
    """Return the closed days in a range, oldest first."""
    statement = "SELECT * FROM billing_days WHERE business_date BETWEEN :first AND :last ORDER BY business_date"
    rows = context.connection.records(statement, first=first.isoformat(), last=last.isoformat())
    return [_recorded(row) for row in rows]


def recorded_day(day: date, context: Context) -> Day | None:
    """Return a closed day; None if it is not closed."""
    return next(iter(recorded_days(day, day, context)), None)


def _open_days(first: date, last: date, closed: date | None, as_of: datetime | None, context: Context) -> Iterator[Day]:
    last_recorded = recorded_day(closed, context) if closed else None
    in_red_count = last_recorded.in_red_count if last_recorded else 0
    figures_by_day = open_figures(open_day_movements(closed, as_of, context), in_red_count)
    today = context.calendar.date_of(as_of or context.now)
    days = context.calendar.days(first, min(last, max([today, *figures_by_day])))
    for day, figures in day_by_day(days, figures_by_day, in_red_count):
        yield Day(
            business_date=day,
            closed=False,
            fees_cents=figures.fees_cents,
            rewards_cents=figures.rewards_cents,
            income_cents=figures.fees_cents - figures.rewards_cents,
            payouts_cents=0,
            paid_count=0,
            in_red_count=figures.in_red_count,
        )


def _recorded(row: Mapping[str, Any]) -> Day:
    return Day(
        business_date=from_iso_date(row["business_date"]),
        closed=True,
        fees_cents=row["fees_cents"],
        rewards_cents=row["rewards_cents"],
        income_cents=row["fees_cents"] - row["rewards_cents"],
        payouts_cents=row["payouts_cents"],
        paid_count=row["paid_count"],
        in_red_count=row["in_red_count"],
    )

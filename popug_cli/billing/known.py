"""What the ledger says of a date as far as it was recorded by an instant."""

from datetime import date, datetime
from typing import NamedTuple

from sqlalchemy import text

from popug_cli.billing.balances import closed_by, open_movements
from popug_cli.billing.figures import company_days, recorded_day
from popug_cli.billing.rules import open_figures
from popug_cli.bus.runtime import Context
from popug_cli.kernel.clock import parse_stamp, stamp

DEAREST = text(
    "SELECT business_date, amount_cents, occurred_at, number, title FROM ("
    " SELECT e.business_date, e.amount_cents, e.occurred_at, t.number, t.title, row_number() OVER ("
    " PARTITION BY e.business_date ORDER BY e.amount_cents DESC, e.occurred_at, t.number) AS place"
    " FROM billing_accounts a CROSS JOIN billing_entries e JOIN billing_tasks t ON t.task_id = e.task_id"
    " WHERE e.employee_id = a.account_id AND e.business_date BETWEEN :first AND :last AND e.kind = 'reward'"
    " AND e.recorded_at <= :known_at AND t.number IS NOT NULL) AS ranked WHERE place = 1 ORDER BY business_date"
)


class Rewarded(NamedTuple):
    """The highest reward of a business date and the task that it was for."""

    business_date: date
    reward_cents: int
    completed_at: datetime
    number: int
    title: str


def income_on(day: date, known_at: datetime, context: Context) -> int:
    """Management's income of a date in cents; 0 of a date that the company had not had."""
    return sum(each.income_cents for each in company_days(day, day, known_at, context))


def in_red_on(day: date, known_at: datetime, context: Context) -> int:
    """How many were below zero: at the end of a past date, else with all that was recorded."""
    closed = closed_by(known_at, context)
    if closed is not None and day <= closed:
        recorded = recorded_day(day, context)
        return recorded.in_red_count if recorded else 0
    before = recorded_day(closed, context) if closed else None
    in_red_count = before.in_red_count if before else 0
    moved = open_figures(open_movements(closed, known_at, context), in_red_count)
    is_past = day < context.calendar.date_of(known_at)
    latest = max((each for each in moved if each <= day or not is_past), default=None)
    return moved[latest].in_red_count if latest else in_red_count


def dearest_by_day(first: date, last: date, known_at: datetime, context: Context) -> list[Rewarded]:
    """The highest reward of each business date that has one; on a tie the one of the earliest completion."""
    parameters = {"first": first.isoformat(), "last": last.isoformat(), "known_at": stamp(known_at)}
    return [
        Rewarded(date.fromisoformat(day), cents, parse_stamp(completed_at), number, title)
        for day, cents, completed_at, number, title in context.connection.execute(DEAREST, parameters)
    ]

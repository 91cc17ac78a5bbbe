"""The company's days: the first, the closed ones, those that tasks has ended, and the next day to close."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from functools import cache

from popug_cli.billing.balances import closed_by
from popug_cli.billing.rules import business_date
from popug_cli.bus.context import Context
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.stored_values import from_iso_date
from popug_cli.messages.base import Event
from popug_cli.messages.envelope import Delivered

SELECT_BOUNDS = (
    "SELECT first_day, (SELECT max(business_date) FROM billing_days),"
    " (SELECT max(business_date) FROM billing_ended_days) FROM billing_company"
)


DayBounds = tuple[date | None, date | None, date | None]
"""The company's first day, the last closed day, and the last day whose ``day_ended`` billing has consumed, or None."""


def record_first_day(day: date, context: Context) -> None:
    """Store the company's first day, unless one is stored already."""
    context.connection.insert_many(
        "INSERT INTO billing_company (id, first_day) VALUES (1, ?) ON CONFLICT (id) DO NOTHING",
        [(day.isoformat(),)],
    )


def record_ended_days(ended: Sequence[date], context: Context) -> None:
    """Store that tasks has ended these days, each with all days before it."""
    context.connection.insert_many(
        "INSERT INTO billing_ended_days (business_date, recorded_at) VALUES (?, ?)"
        " ON CONFLICT (business_date) DO NOTHING",
        [(day.isoformat(), to_rfc3339(context.now)) for day in ended],
    )


def day_bounds(context: Context) -> DayBounds:
    """Return which days are closed and ended; all are None before billing has processed any event."""
    row = context.connection.select_one(SELECT_BOUNDS)
    return (_date(row[0]), _date(row[1]), _date(row[2])) if row else (None, None, None)


def first_day(context: Context) -> date | None:
    """Return the company's first day; None before billing has processed any event."""
    return day_bounds(context)[0]


def last_closed(context: Context) -> date | None:
    """Return the latest closed day, or None."""
    return day_bounds(context)[1]


def first_open(context: Context) -> date | None:
    """Return the next day to close; None before billing has processed any event."""
    return _first_open(day_bounds(context), context)


def open_days(up_to: date, context: Context) -> list[date]:
    """Return the days up to a date that are not closed yet, oldest first."""
    first = first_open(context)
    return list(context.calendar.days(first, up_to)) if first else []


def open_business_date(as_of: datetime | None, context: Context) -> date:
    """Return the business date of what happens now: today or, if it has ended or is closed, the first day after it.

    With ``as_of``, return the one that applied at that instant.
    """
    today = context.calendar.date_of(as_of or context.now)
    if as_of is None:
        first = _first_not_ended(day_bounds(context), context)
    else:
        last = max(filter(None, (closed_by(as_of, context), _ended_by(as_of, context))), default=None)
        first = context.calendar.next_day(last) if last else None
    return business_date(today, first) if first else today


def correction_date(wrong_entry_date: date, context: Context) -> date:
    """Return the business date of a reversal made now: the open business date, but never before the reversed entry."""
    return max(open_business_date(None, context), wrong_entry_date)


def business_date_resolver(context: Context) -> Callable[[Delivered[Event]], date]:
    """Return a function that maps an event of tasks to its business date, given the days that are closed now.

    It is the date that the event counts for at tasks, or the first open day if that is later. An old event, which has
    no such date, counts for the date of its time.
    """
    first = first_open(context)
    assert first is not None, "the company has begun"
    date_of = cache(context.calendar.date_of)

    def business_date_of(event: Delivered[Event]) -> date:
        return business_date(event.business_date or date_of(event.time), first)

    return business_date_of


def _first_open(bounds: DayBounds, context: Context) -> date | None:
    first, closed, _ = bounds
    return context.calendar.next_day(closed) if closed else first


def _first_not_ended(bounds: DayBounds, context: Context) -> date | None:
    first, closed, ended = bounds
    last = max(closed or date.min, ended or date.min)
    return context.calendar.next_day(last) if last > date.min else first


def _ended_by(as_of: datetime, context: Context) -> date | None:
    """Return the latest day whose ``day_ended`` billing had consumed by an instant, or None."""
    statement = "SELECT max(business_date) FROM billing_ended_days WHERE recorded_at <= :as_of"
    return _date(context.connection.scalar(statement, as_of=to_rfc3339(as_of)))


def _date(stored: str | None) -> date | None:
    return from_iso_date(stored) if stored else None

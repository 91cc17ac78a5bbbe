"""The company's first day, its closed days, and the next day to close."""

from collections.abc import Callable
from datetime import date, datetime
from functools import cache

from popug_cli.billing.balances import closed_by
from popug_cli.billing.rules import business_date
from popug_cli.bus.context import Context
from popug_cli.kernel.stored_values import from_iso_date
from popug_cli.messages.internal.business_date import BusinessDate, GetBusinessDate


def record_first_day(day: date, context: Context) -> None:
    """Store the company's first day, unless one is stored already."""
    context.connection.insert_many(
        "INSERT INTO billing_company (id, first_day) VALUES (1, ?) ON CONFLICT (id) DO NOTHING",
        [(day.isoformat(),)],
    )


def first_day(context: Context) -> date | None:
    """Return the company's first day; None before billing has processed any event."""
    return _date(context.connection.scalar("SELECT first_day FROM billing_company"))


def last_closed(context: Context) -> date | None:
    """Return the latest closed day, or None."""
    return _date(context.connection.scalar("SELECT max(business_date) FROM billing_days"))


def first_open(context: Context) -> date | None:
    """Return the next day to close; None before billing has processed any event."""
    closed = last_closed(context)
    return first_day(context) if closed is None else context.calendar.next_day(closed)


def open_days(up_to: date, context: Context) -> list[date]:
    """Return the days up to a date that are not closed yet, oldest first."""
    first = first_open(context)
    return list(context.calendar.days(first, up_to)) if first else []


def open_business_date(as_of: datetime | None, context: Context) -> date:
    """Return the business date of an event that happens now: today or, if today is closed, the first open day after it.

    With ``as_of``, return the one that applied at that instant.
    """
    today = context.calendar.date_of(as_of or context.now)
    if as_of is None:
        first = first_open(context)
    else:
        closed = closed_by(as_of, context)
        first = context.calendar.next_day(closed) if closed else None
    return business_date(today, first) if first else today


def get_business_date(message: GetBusinessDate, context: Context) -> BusinessDate:
    """Return the business date of what happens now."""
    return BusinessDate(open_business_date(None, context), context.calendar.date_of(context.now))


def business_date_resolver(context: Context) -> Callable[[datetime], date]:
    """Return a function that maps an instant to its business date, given the days that are closed now."""
    first = first_open(context)
    assert first is not None, "the company has begun"

    @cache
    def date_of(instant: datetime) -> date:
        return business_date(context.calendar.date_of(instant), first)

    return date_of


def _date(stored: str | None) -> date | None:
    return from_iso_date(stored) if stored else None

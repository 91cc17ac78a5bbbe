"""Which day is the first, which are closed, which is the next to close."""

from collections.abc import Callable
from datetime import date, datetime
from functools import cache

from popug_cli.billing.rules import business_date
from popug_cli.bus.context import Context
from popug_cli.storage.engine import insert_many, scalar


def record_first_day(day: date, context: Context) -> None:
    """Remember the company's first day; does nothing where it is known."""
    insert_many(
        context.connection,
        "INSERT INTO billing_company (id, first_day) VALUES (1, ?) ON CONFLICT (id) DO NOTHING",
        [(day.isoformat(),)],
    )


def first_day(context: Context) -> date | None:
    """The company's first day; None before billing has heard of anything."""
    return _date(scalar(context.connection, "SELECT first_day FROM billing_company"))


def last_closed(context: Context) -> date | None:
    """The latest closed day, if there is one."""
    return _date(scalar(context.connection, "SELECT max(business_date) FROM billing_days"))


def first_open(context: Context) -> date | None:
    """The day that is closed next; None before billing has heard of anything."""
    closed = last_closed(context)
    return first_day(context) if closed is None else context.calendar.next_day(closed)


def open_days(up_to: date, context: Context) -> list[date]:
    """The days that are not closed yet, oldest first, up to a date."""
    first = first_open(context)
    return list(context.calendar.days(first, up_to)) if first else []


def business_date_resolver(context: Context) -> Callable[[datetime], date]:
    """A function that gives what occurred at an instant its business date, as the days stand now."""
    first = first_open(context)
    assert first is not None, "the company has begun"

    @cache
    def date_of(instant: datetime) -> date:
        return business_date(context.calendar.date_of(instant), first)

    return date_of


def _date(stored: str | None) -> date | None:
    return date.fromisoformat(stored) if stored else None

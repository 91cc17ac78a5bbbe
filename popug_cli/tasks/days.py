"""The days of tasks: which have ended, and the date that an event of tasks counts for.

A day is ended here, by ``day_ended``, and then closed by billing. What tasks publishes after a day has ended counts for
a later day, so billing can close a day when it has consumed the ``day_ended``, however late the other events arrive.
"""

from datetime import date

from popug_cli.bus.context import Context
from popug_cli.kernel.stored_values import from_iso_date

FIRST_DAY = "(SELECT first_day FROM tasks_company)"
LAST_ENDED = "(SELECT max(business_date) FROM tasks_ended_days)"


def record_first_day(day: date, context: Context) -> None:
    """Store the company's first day, unless one is stored already."""
    context.connection.insert_many(
        "INSERT INTO tasks_company (id, first_day) VALUES (1, ?) ON CONFLICT (id) DO NOTHING", [(day.isoformat(),)]
    )


def last_ended(context: Context) -> date | None:
    """Return the last day that has ended, or None."""
    stored = context.connection.scalar(f"SELECT {LAST_ENDED}")
    return from_iso_date(stored) if stored else None


def business_date(context: Context) -> date:
    """Return the date that an event published now counts for: today, or the day after the last ended one if later."""
    return business_date_after(last_ended(context), context)


def business_date_after(ended: date | str | None, context: Context) -> date:
    """Return ``business_date``, given the last ended day as a date or as it is stored."""
    today = context.calendar.date_of(context.now)
    last = from_iso_date(ended) if isinstance(ended, str) else ended
    return today if last is None or last < today else context.calendar.next_day(last)


def date_of_money(context: Context) -> date:
    """Return the date that money which moves now counts for: that of its event, but not before the first day."""
    row = context.connection.select_one(f"SELECT {FIRST_DAY}, {LAST_ENDED}")
    assert row is not None, "a query without FROM has one row"
    first, ended = row
    counts_for = business_date_after(ended, context)
    return max(from_iso_date(first), counts_for) if first else counts_for

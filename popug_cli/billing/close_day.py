"""The parts of a close that billing performs: which days it may close, one day at a time, and a preview."""

from popug_cli.billing import closing, days, rules
from popug_cli.bus.context import Context
from popug_cli.messages.internal.billing import (
    CloseDate,
    ClosedDays,
    CloseNextDay,
    FoundDay,
    GetCloseDate,
    GetClosedDay,
    GetOpenDays,
    OpenDays,
    PreviewClose,
)


def get_close_date(message: GetCloseDate, context: Context) -> CloseDate:
    """Return the last day to close, after checking that it may be closed.

    Raise ``future_date``, ``before_first_day``, ``no_such_day`` or ``needs_yes``.
    """
    calendar, today = context.calendar, context.calendar.date_of(context.now)
    if message.day is not None:
        rules.validate_close_date(message.day, today, days.first_day(context))
        if not calendar.exists(message.day):
            raise rules.nonexistent_day(message.day, calendar.time_zone)
    up_to = message.day or (calendar.previous_day(today) if message.yesterday else today)
    if not message.dry_run:
        rules.require_confirmation(len(days.open_days(up_to, context)), confirmed=message.confirmed)
    return CloseDate(up_to)


def close_next_day(message: CloseNextDay, context: Context) -> FoundDay:
    """Close the oldest open day up to a date and return it, or None if none is open. Raise ``changed_meanwhile``."""
    if message.expected_payouts_cents is not None and _is_first_or_last(message, context):
        payouts = [day.payouts_cents for day in message.closed]
        payouts += [day.payouts_cents for day in closing.dry_run(message.up_to, context)]
        closed = [day.business_date for day in message.closed]
        rules.require_expected_payouts(message.expected_payouts_cents, payouts, closed)
    return FoundDay(closing.close_next(message.up_to, context))


def _is_first_or_last(message: CloseNextDay, context: Context) -> bool:
    return not message.closed or days.first_open(context) == message.up_to


def preview_close(message: PreviewClose, context: Context) -> ClosedDays:
    """Return the days that a close up to a date would close, and roll back every change."""
    return ClosedDays(closing.dry_run(message.up_to, context))


def get_closed_day(message: GetClosedDay, context: Context) -> FoundDay:
    """Return a day with its payouts, or None if it is not closed."""
    return FoundDay(closing.closed_day(message.day, context))


def get_open_days(message: GetOpenDays, context: Context) -> OpenDays:
    """Return the first open day, and how many days up to a date are open."""
    count = len(days.open_days(message.up_to, context))
    return OpenDays(days.first_open(context), count, count > rules.MAX_UNCONFIRMED_DAYS)

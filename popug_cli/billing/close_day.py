"""The parts of a close that billing performs: which days it may close, one day at a time, and a preview."""

from popug_cli.billing import closing, days, rules
from popug_cli.billing.consumers import CONSUMER
from popug_cli.bus.context import Context
from popug_cli.bus.inbox import Consumption, consumption_of
from popug_cli.kernel.calendar import MAX_UNCONFIRMED_DAYS, nonexistent_day, require_confirmation, validate_close_date
from popug_cli.messages.internal.billing import (
    CheckNextDay,
    CloseDate,
    ClosedDays,
    CloseNextDay,
    FoundDay,
    GetCloseDate,
    GetClosedDay,
    GetOpenDays,
    NextDay,
    OpenDays,
    PreviewClose,
)


def get_close_date(message: GetCloseDate, context: Context) -> CloseDate:
    """Return the last day to close, after checking that it may be closed.

    Raise ``future_date``, ``before_first_day``, ``no_such_day`` or ``needs_yes``.
    """
    calendar, today = context.calendar, context.calendar.date_of(context.now)
    if message.day is not None:
        validate_close_date(message.day, today, days.first_day(context))
        if not calendar.exists(message.day):
            raise nonexistent_day(message.day, calendar.time_zone)
    up_to = message.day or (calendar.previous_day(today) if message.yesterday else today)
    if not message.dry_run:
        require_confirmation(len(days.open_days(up_to, context)), confirmed=message.confirmed)
    return CloseDate(up_to)


def check_next_day(message: CheckNextDay, context: Context) -> NextDay:
    """Return the oldest open day up to a date, or None if none is open. Raise ``changed_meanwhile``."""
    first = days.first_open(context)
    is_last = not message.closed or first == message.up_to
    if message.expected_payouts_cents is not None and is_last:
        payouts = [day.payouts_cents for day in message.closed]
        payouts += [day.payouts_cents for day in closing.dry_run(message.up_to, context)]
        closed = [day.business_date for day in message.closed]
        rules.require_expected_payouts(message.expected_payouts_cents, payouts, closed)
    return NextDay(first if first is not None and first <= message.up_to else None)


def close_next_day(message: CloseNextDay, context: Context) -> FoundDay:
    """Close the oldest open day up to a date and return it, or None if none is open.

    Raise ``behind`` if billing has not consumed the ``day_ended`` of the day.
    """
    if message.ended_by is None:
        days.record_ended_days([message.up_to], context)
    else:
        consumption = consumption_of(context, CONSUMER.name, message.ended_by)
        if consumption is not Consumption.DONE:
            raise rules.behind(message.up_to, message.ended_by, is_set_aside=consumption is Consumption.SET_ASIDE)
    return FoundDay(closing.close_next(message.up_to, context))


def preview_close(message: PreviewClose, context: Context) -> ClosedDays:
    """Return the days that a close up to a date would close, and roll back every change."""
    return ClosedDays(closing.dry_run(message.up_to, context))


def get_closed_day(message: GetClosedDay, context: Context) -> FoundDay:
    """Return a day with its payouts, or None if it is not closed."""
    return FoundDay(closing.closed_day(message.day, context))


def get_open_days(message: GetOpenDays, context: Context) -> OpenDays:
    """Return the first open day, and how many days up to a date are open."""
    count = len(days.open_days(message.up_to, context))
    return OpenDays(days.first_open(context), count, count > MAX_UNCONFIRMED_DAYS)

"""Ending a day: the part of a close that tasks performs, before billing closes the day."""

from collections.abc import Callable
from datetime import date
from functools import partial
from typing import NamedTuple

from popug_cli.bus.context import Context
from popug_cli.bus.workflow import WorkflowBackend
from popug_cli.kernel.calendar import nonexistent_day, require_confirmation, validate_close_date
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.stored_values import from_iso_date
from popug_cli.messages.internal.tasks import EndDay, EndedDay
from popug_cli.messages.principal import Principal
from popug_cli.messages.tasks import DayEnded
from popug_cli.tasks import days

SELECT_ENDED = (
    f"SELECT {days.FIRST_DAY}, {days.LAST_ENDED}, ended.business_date, ended.event_id FROM (SELECT 1) AS one_row"
    " LEFT JOIN tasks_ended_days ended ON ended.business_date ="
    " (SELECT min(business_date) FROM tasks_ended_days WHERE business_date >= :day)"
)


class EndOfDays(NamedTuple):
    """The company's first day, the last ended day, and the first ended day at or after one that was asked for.

    ``event_id`` is the ``day_ended`` of the latter. A day that was closed before tasks recorded the end of days has no
    such event. ``first_day`` is None until tasks has processed the registration of a user.
    """

    first_day: date | None
    last_ended: date | None
    found: date | None
    event_id: str | None


def end_day(message: EndDay, context: Context) -> EndedDay:
    """Publish ``day_ended``, which ends all days up to the one asked for; if it has ended already, change nothing.

    Raise ``future_date``, ``no_such_day`` or ``needs_yes``. Billing has refused a day before the company's first one.
    """
    ended = _find_ended(message.day, context)
    if ended.found is not None:
        return EndedDay(ended.found, ended.event_id)
    _check(message, ended, context)
    business_date = days.business_date_after(ended.last_ended, context)
    event_id = context.events.publish(DayEnded(business_date=message.day), business_date=business_date)
    _record_end(message.day, event_id, context)
    return EndedDay(message.day, event_id)


def end_day_of_service(
    backend: WorkflowBackend, message: EndDay, principal: Principal, *, wait_for_identity: Callable[[], None]
) -> EndedDay:
    """End a day as the service of tasks: first consume all that identity has acknowledged, then call ``end_day``.

    ``wait_for_identity`` asks identity for the head of its log, and returns when tasks has consumed its events up to
    that. It is called outside any transaction, and not at all if the day has ended already or is refused. It raises
    ``behind`` if identity does not answer. Then each event that waits for a retry is retried once. Raise the errors of
    ``end_day`` as well.
    """
    with backend.asking(principal, is_command=True) as company:
        ended = _find_ended(message.day, company.context)
        if ended.found is not None:
            return EndedDay(ended.found, ended.event_id)
        _check(message, ended, company.context)
    wait_for_identity()
    backend.catch_up(include_not_due=True, completely=True)
    return backend.write(message, principal, partial(end_day, message))


def _check(message: EndDay, ended: EndOfDays, context: Context) -> None:
    """Raise the error for a day that may not end now."""
    calendar = context.calendar
    # The company's first day is billing's. Tasks may know none or a later one, if it failed on a registration.
    first_day = min(ended.first_day or message.day, message.day)
    validate_close_date(message.day, calendar.date_of(context.now), first_day)
    if not calendar.exists(message.day):
        raise nonexistent_day(message.day, calendar.time_zone)
    start = calendar.next_day(ended.last_ended) if ended.last_ended else first_day
    require_confirmation(sum(1 for _ in calendar.days(start, message.day)), confirmed=message.confirmed)


def _find_ended(day: date, context: Context) -> EndOfDays:
    """Return which days have ended, with the first end at or after a day."""
    row = context.connection.select_one(SELECT_ENDED, day=day.isoformat())
    assert row is not None, "the query has one row"
    first, last, found, event_id = row
    return EndOfDays(_date(first), _date(last), _date(found), event_id)


def _record_end(day: date, event_id: str, context: Context) -> None:
    """Store that all days up to a day have ended, with the id of its ``day_ended``."""
    context.connection.execute(
        "INSERT INTO tasks_ended_days (business_date, event_id, ended_at) VALUES (?, ?, ?)",
        day.isoformat(),
        event_id,
        to_rfc3339(context.now),
    )


def _date(stored: str | None) -> date | None:
    return from_iso_date(stored) if stored else None

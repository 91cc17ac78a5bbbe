"""Scheduled runs: read the due work from the database (days, summaries, mail, events, backup) and do it.

``daemon/scheduler.py`` only decides when to send these messages.
"""

from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING

from popug_cli.app.asking import CompanySnapshot, perform_part
from popug_cli.app.workflows.close_day import close_day
from popug_cli.bus.context import Context
from popug_cli.bus.cursors import require_known_versions
from popug_cli.bus.queries import list_parked_events
from popug_cli.kernel.calendar import Calendar
from popug_cli.kernel.errors import PopugError
from popug_cli.messages.billing import CloseDay, ClosedDay
from popug_cli.messages.company import BackUp
from popug_cli.messages.internal.billing import GetOpenDays
from popug_cli.messages.internal.mail import CountMails, QueueSummaries, SendDue
from popug_cli.messages.principal import Principal
from popug_cli.messages.scheduler import RunDue, Schedule, ScheduledRunResult, ShowSchedule
from popug_cli.storage import heartbeat

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend

HEARTBEAT_INTERVAL = timedelta(minutes=10)


def show_schedule(backend: "LocalBackend", message: ShowSchedule, principal: Principal) -> Schedule:
    """Return the next scheduled work, and when it is due."""
    backend.catch_up()
    with backend.asking(principal, is_command=True) as company:
        return _schedule(company, message.at_minute, confirmed=message.confirmed)


def run_due(backend: "LocalBackend", message: RunDue, principal: Principal) -> ScheduledRunResult:
    """Retry events, close days, queue summaries, send mail and write the daily backup, as far as they are due.

    Raise ``behind`` before a close if a consumer stops at an event which only a newer program knows.
    """
    _record_heartbeat(backend, principal)
    with backend.runtime.reading(principal) as context:
        require_known_versions(context, backend.consumers)
    backend.catch_up(completely=True)
    with backend.asking(principal, is_command=True) as company:
        now = company.context.now
        up_to = last_closable_day(backend.calendar, now, message.at_minute)
        schedule = _schedule(company, message.at_minute, confirmed=message.confirmed)
    closed: list[ClosedDay] = []
    if schedule.overdue_days and not schedule.needs_yes:
        close_message = CloseDay(day=up_to, send_mail=False, confirmed=message.confirmed)
        closed = [day for day in close_day(backend, close_message, principal).days if not day.already_closed]
    perform_part(backend, principal, QueueSummaries())
    mail = perform_part(backend, principal, SendDue(if_any=True))
    backup = _back_up(backend, principal) if backend.runtime.settings.flag("scheduler.backup") else None
    with backend.asking(principal, is_command=True) as company:
        next_schedule = _schedule(company, message.at_minute, confirmed=message.confirmed)
        set_aside = len(list_parked_events(company.context))
        return ScheduledRunResult(now, closed, mail, set_aside, backup, next_schedule)


def last_closable_day(calendar: Calendar, now: datetime, at_minute: int) -> date:
    """Return the last day that may be closed now: yesterday, or the day before until `at_minute` of today."""
    local = calendar.local(now)
    yesterday = calendar.previous_day(local.date())
    return yesterday if local.hour * 60 + local.minute >= at_minute else calendar.previous_day(yesterday)


def _schedule(company: CompanySnapshot, at_minute: int, *, confirmed: bool) -> Schedule:
    calendar, now = company.context.calendar, company.context.now
    days = company.ask(GetOpenDays(up_to=last_closable_day(calendar, now, at_minute)))
    return Schedule(
        time_zone=calendar.time_zone,
        closes=days.first,
        closes_at=_closing_time(days.first, calendar, at_minute) if days.first else None,
        overdue_days=days.count,
        needs_yes=days.needs_confirmation and not confirmed,
        mail_queued=company.ask(CountMails()).unsent,
    )


def _closing_time(day: date, calendar: Calendar, at_minute: int) -> datetime:
    return calendar.first_instant_of(calendar.next_day(day), time(*divmod(at_minute, 60)))


def _back_up(backend: "LocalBackend", principal: Principal) -> str | None:
    """Write today's backup if none was tried, and return its path. A failure is a warning."""
    from popug_cli.app.workflows.backup import back_up

    with backend.runtime.reading(principal) as context:
        if _is_backed_up(context):
            return None
    with backend.runtime.writing(principal) as context:
        if _is_backed_up(context):  # another scheduler may have tried it since the read above
            return None
        heartbeat.record(context.connection, heartbeat.BACKUP, context.now)
    try:
        return back_up(backend, BackUp(), principal).path
    except PopugError as error:
        backend.warn(f"Today's backup was not taken: {error.message} {error.hint}")
        return None


def _is_backed_up(context: Context) -> bool:
    """Return whether a backup was tried today."""
    tried_at = heartbeat.last_recorded(context.connection, heartbeat.BACKUP)
    return tried_at is not None and context.calendar.date_of(tried_at) == context.calendar.date_of(context.now)


def _record_heartbeat(backend: "LocalBackend", principal: Principal) -> None:
    """Record the scheduler's heartbeat if the last is older than ``HEARTBEAT_INTERVAL``; the doctor reads it."""
    with backend.runtime.reading(principal) as context:
        seen_at, now = heartbeat.last_recorded(context.connection, heartbeat.SCHEDULER), context.now
    if seen_at is None or not now - HEARTBEAT_INTERVAL < seen_at <= now:
        with backend.runtime.writing(principal) as context:
            heartbeat.record(context.connection, heartbeat.SCHEDULER, context.now)

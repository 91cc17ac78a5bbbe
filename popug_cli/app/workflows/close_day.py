"""Close days: run the consumers, close each open day in its own transaction, then send mail."""

from datetime import date
from functools import partial
from typing import TYPE_CHECKING

from popug_cli.app.workflows.send_mail import count_unsent, send_due
from popug_cli.app.workflows.summaries import count_dry_run, queue_summaries
from popug_cli.billing import closing, days, rules
from popug_cli.billing.at_stake import amount_at_stake_cents
from popug_cli.bus.consumers import retry_in_transaction, rolled_back
from popug_cli.bus.context import Context
from popug_cli.bus.dead_letters import event_id_of
from popug_cli.bus.queries import list_parked_events
from popug_cli.messages.billing import CloseDay, ClosedDay, CloseReport, MailCount, SetAside
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend


def close_day(backend: "LocalBackend", message: CloseDay, principal: Principal) -> CloseReport:
    """Close every open day up to the requested one, oldest first, then queue summaries and send mail.

    Raise ``future_date``, ``before_first_day``, ``no_such_day``, ``needs_yes`` or ``changed_meanwhile``. A dry run
    closes nothing.
    """
    backend.catch_up(include_not_due=not message.dry_run, completely=True)
    up_to = backend.write(message, principal, lambda context: _asked_day(message, context))
    if message.dry_run:
        return _dry_run(backend, message, principal, up_to)
    closed = _close_days(backend, message, principal, up_to)
    backend.catch_up(completely=True)
    queue_summaries(backend, principal)
    if message.send_mail:
        run = send_due(backend, principal)
        mail = MailCount(run.sent, run.queued, run.failed)
    else:
        mail = MailCount(0, count_unsent(backend, principal))
    return backend.rerun(partial(_report, backend, principal, closed, mail))


def _report(backend: "LocalBackend", principal: Principal, closed: list[ClosedDay], mail: MailCount) -> CloseReport:
    with backend.runtime.reading(principal) as context:
        return CloseReport(closed, mail, _set_aside(context))


def _asked_day(message: CloseDay, context: Context) -> date:
    """Return the last day to close, after checking that it may be closed."""
    calendar, today = context.calendar, context.calendar.date_of(context.now)
    if message.day is not None:
        rules.validate_close_date(message.day, today, days.first_day(context))
        if not calendar.exists(message.day):
            raise rules.nonexistent_day(message.day, calendar.time_zone)
    up_to = message.day or (calendar.previous_day(today) if message.yesterday else today)
    if not message.dry_run:
        rules.require_confirmation(len(days.open_days(up_to, context)), confirmed=message.confirmed)
    return up_to


def _close_days(backend: "LocalBackend", message: CloseDay, principal: Principal, up_to: date) -> list[ClosedDay]:
    """Close the open days and return them, with the last day added if it was closed before."""
    closed: list[ClosedDay] = []

    def close_next(context: Context) -> ClosedDay | None:
        is_first_or_last = not closed or days.first_open(context) == up_to
        if message.expected_payouts_cents is not None and is_first_or_last:
            all_days = closed + closing.dry_run(up_to, context)
            rules.require_expected_payouts(
                message.expected_payouts_cents, [day.payouts_cents for day in all_days], [*map(_date, closed)]
            )
        return closing.close_next(up_to, context)

    while (day := backend.write(message, principal, close_next)) is not None:
        closed.append(day)
    return closed + _closed_before(backend, principal, up_to, closed)


def _date(day: ClosedDay) -> date:
    return day.business_date


def _dry_run(backend: "LocalBackend", message: CloseDay, principal: Principal, up_to: date) -> CloseReport:
    """Return the result that a close would have, including that of the retries with which it begins."""

    def preview(context: Context) -> tuple[list[ClosedDay], list[SetAside]]:
        with rolled_back(context):
            retry_in_transaction(backend.consumers, context)
            return closing.dry_run(up_to, context), _set_aside(context)

    closed, parked = backend.write(message, principal, preview)
    summaries = count_dry_run(backend, principal, len(closed))
    mail = MailCount(0, sum(day.paid_count for day in closed) + summaries)
    every_day = closed + _closed_before(backend, principal, up_to, closed)
    return CloseReport(every_day, mail, parked)


def _closed_before(
    backend: "LocalBackend", principal: Principal, day: date, reported: list[ClosedDay]
) -> list[ClosedDay]:
    if any(closed_day.business_date == day for closed_day in reported):
        return []

    def read() -> ClosedDay | None:
        with backend.runtime.reading(principal) as context:
            return closing.closed_day(day, context)

    closed = backend.rerun(read)
    return [closed] if closed else []


def _set_aside(context: Context) -> list[SetAside]:
    """Return the parked events, each with the money at stake."""
    return [
        SetAside(event_id_of(parked), parked.consumer, amount_at_stake_cents(parked, context))
        for parked in list_parked_events(context)
    ]

"""Close days: run the consumers, close each open day in its own transaction, then send mail."""

from collections.abc import Sequence
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

from popug_cli.app.asking import CompanySnapshot, perform_part
from popug_cli.bus.consumers import retry_in_transaction, rolled_back
from popug_cli.bus.context import Context
from popug_cli.bus.cursors import mark_published_done, require_known_versions
from popug_cli.bus.dead_letters import event_id_of
from popug_cli.bus.queries import list_parked_events
from popug_cli.kernel.errors import PopugError
from popug_cli.messages.billing import CloseDay, ClosedDay, CloseReport, MailCount, SetAside
from popug_cli.messages.internal.billing import (
    CheckNextDay,
    CloseNextDay,
    GetAmountsAtStake,
    GetCloseDate,
    GetClosedDay,
    PaidDay,
    PreviewClose,
)
from popug_cli.messages.internal.mail import CountMails, CountSummaries, QueueSummaries, SendDue
from popug_cli.messages.internal.tasks import EndDay
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend


def close_day(backend: "LocalBackend", message: CloseDay, principal: Principal) -> CloseReport:
    """Close every open day up to the requested one, oldest first, then queue summaries and send mail.

    Raise ``future_date``, ``before_first_day``, ``no_such_day``, ``needs_yes`` or ``changed_meanwhile``, and ``behind``
    if a consumer stops at an event which only a newer program knows. A dry run closes nothing. Between services, an
    error after the close has the detail ``closed``, the last closed day: only mail is left then.
    """
    with backend.runtime.reading(principal) as context:
        require_known_versions(context, backend.consumers)
    backend.catch_up(include_not_due=not message.dry_run, completely=True)
    get_date = GetCloseDate(
        day=message.day, yesterday=message.yesterday, dry_run=message.dry_run, confirmed=message.confirmed
    )
    up_to = backend.write(message, principal, lambda context: CompanySnapshot(context).ask(get_date)).up_to
    if message.dry_run:
        return _dry_run(backend, message, principal, up_to)
    closed = _close_days(backend, message, principal, up_to)
    try:
        backend.catch_up(completely=True)
        perform_part(backend, principal, QueueSummaries())
        run = perform_part(backend, principal, SendDue()) if message.send_mail else None
        mail = MailCount(run.sent, run.queued, run.failed) if run else None
        return backend.rerun(partial(_report, backend, principal, closed, mail))
    except PopugError as error:
        if backend.runtime.service and closed:
            _say_closed(error, closed[-1].business_date)
        raise


def _say_closed(error: PopugError, day: date) -> None:
    """Add to an error of the mail that a day is closed; ``popug close-day`` then does what is left."""
    error.message += f" {day} is closed: when you run `popug close-day` again, it sends the mail that is left."
    error.details["closed"] = day.isoformat()


def _report(
    backend: "LocalBackend", principal: Principal, closed: list[ClosedDay], mail: MailCount | None
) -> CloseReport:
    """Return the report; count the mails that are still to be sent if ``mail`` is None."""
    with backend.asking(principal, is_command=True) as company:
        mail = mail or MailCount(0, company.ask(CountMails()).unsent)
        return CloseReport(closed, mail, _set_aside(company))


def _close_days(backend: "LocalBackend", message: CloseDay, principal: Principal, up_to: date) -> list[ClosedDay]:
    """Close the open days and return them, with the last day added if it was closed before.

    Tasks ends each day in the transaction in which billing closes it, so billing need not consume the ``day_ended``.
    Between services, ending and closing are two steps.
    """
    if backend.runtime.service:
        from popug_cli.app.workflows.close_between_services import close_ended_days

        ask_tasks = partial(backend.ask_service, "tasks", principal)
        closed = close_ended_days(backend, message, principal, up_to, ask_tasks)
        return closed + _closed_before(backend, principal, up_to, closed)
    closed = []

    def close_next(context: Context) -> ClosedDay | None:
        company = CompanySnapshot(context)
        day = company.ask(check_next_day(message, up_to, closed)).day
        if day is None:
            return None
        company.ask(EndDay(day=day, confirmed=message.confirmed))
        closed_day = company.ask(CloseNextDay(up_to=day)).day
        mark_published_done(context, "billing")
        return closed_day

    while (day := backend.write(message, principal, close_next)) is not None:
        closed.append(day)
    return closed + _closed_before(backend, principal, up_to, closed)


def check_next_day(message: CloseDay, up_to: date, closed: Sequence[ClosedDay]) -> CheckNextDay:
    """Return the message that checks the next day of a close, which has closed some days already."""
    paid = [PaidDay(day.business_date, day.payouts_cents) for day in closed]
    return CheckNextDay(up_to=up_to, expected_payouts_cents=message.expected_payouts_cents, closed=tuple(paid))


def _dry_run(backend: "LocalBackend", message: CloseDay, principal: Principal, up_to: date) -> CloseReport:
    """Return the result that a close would have, including that of the retries with which it begins."""

    def preview(context: Context) -> tuple[list[ClosedDay], list[SetAside]]:
        with rolled_back(context):
            retry_in_transaction(backend.consumers, context)
            company = CompanySnapshot(context)
            return company.ask(PreviewClose(up_to=up_to)).days, _set_aside(company)

    closed, parked = backend.write(message, principal, preview)
    with backend.asking(principal, is_command=True) as company:
        summaries = company.ask(CountSummaries(days=len(closed))).summaries
    mail = MailCount(0, sum(day.paid_count for day in closed) + summaries)
    every_day = closed + _closed_before(backend, principal, up_to, closed)
    return CloseReport(every_day, mail, parked)


def _closed_before(
    backend: "LocalBackend", principal: Principal, day: date, reported: list[ClosedDay]
) -> list[ClosedDay]:
    if any(closed_day.business_date == day for closed_day in reported):
        return []

    def read() -> ClosedDay | None:
        with backend.asking(principal, is_command=True) as company:
            return company.ask(GetClosedDay(day=day)).day

    closed = backend.rerun(read)
    return [closed] if closed else []


def _set_aside(company: CompanySnapshot) -> list[SetAside]:
    """Return the parked events, each with the money at stake."""
    parked_events = list_parked_events(company.context)
    if not parked_events:
        return []
    amounts = company.ask(GetAmountsAtStake()).cents
    return [SetAside(event_id_of(parked), parked.consumer, amounts.get(parked.id, 0)) for parked in parked_events]

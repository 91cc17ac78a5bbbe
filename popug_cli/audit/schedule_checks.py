"""Checks that days are closed automatically and that mail is sent; they only warn, because no invariant is broken."""

from datetime import timedelta

from popug_cli.billing.days import open_days
from popug_cli.billing.rules import MAX_UNCONFIRMED_DAYS
from popug_cli.bus.context import Context
from popug_cli.mail.outbox import count_failed
from popug_cli.messages.company import Check
from popug_cli.storage.heartbeat import SCHEDULER, last_recorded

MAX_SCHEDULER_SILENCE = timedelta(days=1)


def scheduler(context: Context) -> Check:
    """Warn if a scheduler has run here, but not within the last day."""
    last_run_at = last_recorded(context.connection, SCHEDULER)
    if last_run_at is None:
        return Check("scheduler", True, "no scheduler has run here")
    last_run = f"{context.calendar.local(last_run_at):%Y-%m-%d %H:%M}"
    if context.now - last_run_at > MAX_SCHEDULER_SILENCE:
        return Check("scheduler", True, f"warning: the scheduler has not run since {last_run}; start `popug scheduler`")
    return Check("scheduler", True, f"the scheduler last ran at {last_run}")


def failed_mail(context: Context) -> Check:
    """Warn of mails that were rejected permanently."""
    count = count_failed(context)
    if not count:
        return Check("failed_mail", True, "no mail was rejected permanently")
    mails = "1 mail was" if count == 1 else f"{count} mails were"
    advice = "see `popug mail list --status failed`, then run `popug mail retry --all`"
    return Check("failed_mail", True, f"warning: {mails} rejected permanently; {advice}")


def overdue_days(context: Context) -> Check:
    """Count the open days before today; warn if they are too many to close without confirmation."""
    yesterday = context.calendar.previous_day(context.calendar.date_of(context.now))
    overdue = open_days(yesterday, context)
    if len(overdue) <= MAX_UNCONFIRMED_DAYS:
        return Check("overdue_days", True, f"{len(overdue)} days before today are still open")
    advice = "check the clock, then run `popug close-day --date yesterday --yes`"
    detail = f"warning: {len(overdue):,} days since {overdue[0]} are open, too many to close unconfirmed; {advice}"
    return Check("overdue_days", True, detail)

"""Checks for unfinished work: closes, mail, hooks, parked events. It needs attention, but breaks no invariant."""

from datetime import timedelta

from popug_cli.analytics.consumers import CONSUMER as ANALYTICS
from popug_cli.billing.at_stake import amount_at_stake_cents
from popug_cli.billing.consumers import CONSUMER as BILLING
from popug_cli.billing.days import open_days
from popug_cli.bus.context import Context
from popug_cli.bus.queries import list_parked_events
from popug_cli.bus.status import unknown_version_problems
from popug_cli.kernel.calendar import MAX_UNCONFIRMED_DAYS
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.money import format_cents
from popug_cli.kernel.text import counted
from popug_cli.mail.consumers import CONSUMER as MAIL
from popug_cli.mail.outbox import count_failed, count_unsent, stuck_error
from popug_cli.mail.setting_checks import check_sender
from popug_cli.messages.company import Check
from popug_cli.storage.heartbeat import SCHEDULER, last_recorded
from popug_cli.tasks.consumers import CONSUMER as TASKS

MAX_SCHEDULER_SILENCE = timedelta(days=1)
MAX_MAIL_DELAY = timedelta(hours=2)


def scheduler(context: Context) -> Check:
    """Report whether a scheduler has run here; it needs attention if it has, but not within the last day."""
    last_run_at = last_recorded(context.connection, SCHEDULER)
    if last_run_at is None:
        return Check("scheduler", True, "no scheduler has run here")
    last_run = f"{context.calendar.local(last_run_at):%Y-%m-%d %H:%M}"
    if context.now - last_run_at > MAX_SCHEDULER_SILENCE:
        detail = f"the scheduler has not run since {last_run}; start `popug scheduler`"
        return Check("scheduler", True, detail, attention=True)
    return Check("scheduler", True, f"the scheduler last ran at {last_run}")


def failed_mail(context: Context) -> Check:
    """Report mails that were rejected permanently."""
    count = count_failed(context)
    if not count:
        return Check("failed_mail", True, "no mail was rejected permanently")
    mails = counted(count, "mail was", "mails were")
    advice = "see `popug mail list --status failed`, then run `popug mail retry --all`"
    return Check("failed_mail", True, f"{mails} rejected permanently; {advice}", attention=True)


def unsent_mail(context: Context) -> Check:
    """Report queued mails that the mail settings stop, or that could not be sent for two hours."""
    unsent, held = count_unsent(context)
    error = _mail_error(context) if unsent > held else None
    if error is None:
        return Check("unsent_mail", True, "no mail is queued because of the mail settings")
    mails = counted(unsent - held, "mail is", "mails are")
    advice = "check the mail settings with `popug config show`, then run `popug mail send`"
    return Check("unsent_mail", True, f"{mails} not sent: {error.rstrip('.')}; {advice}", attention=True)


def _mail_error(context: Context) -> str | None:
    try:
        check_sender(context.settings.text("mail.from"))
    except InvalidInput as error:
        return error.message
    return stuck_error(context, before=context.now - MAX_MAIL_DELAY)


def overdue_days(context: Context) -> Check:
    """Report the days before today that are open."""
    yesterday = context.calendar.previous_day(context.calendar.date_of(context.now))
    overdue = open_days(yesterday, context)
    if not overdue:
        return Check("overdue_days", True, "no day before today is open")
    days = counted(len(overdue), "day is", "days are")
    command = "popug close-day --date yesterday"
    if len(overdue) > MAX_UNCONFIRMED_DAYS:
        advice = f"too many to close unconfirmed; check the clock, then run `{command} --yes`"
    else:
        advice = f"run `{command}`"
    return Check("overdue_days", True, f"{days} open since {overdue[0]}; {advice}", attention=True)


def parked_events(context: Context) -> Check:
    """Report the events that consumers have parked; dead letters need attention: only an operator can retry them."""
    rows = context.connection.select(
        "SELECT consumer, state, count(*) FROM bus_set_aside GROUP BY consumer, state ORDER BY consumer, state"
    )
    if not rows:
        return Check("parked_events", True, "no event is parked")
    detail = "; ".join(f"{count} {state} for {consumer}" for consumer, state, count in rows)
    if all(state != "dead" for _, state, _ in rows):
        return Check("parked_events", True, detail)
    cents = sum(amount_at_stake_cents(parked, context) for parked in list_parked_events(context))
    at_stake = f", {format_cents(cents)} at stake" if cents else ""
    return Check("parked_events", True, f"{detail}{at_stake}; see `popug events dead`", attention=True)


def unknown_versions(context: Context) -> Check:
    """Report the consumers that stop at an event of a version that only a newer program knows."""
    sentences = [*unknown_version_problems(context, (ANALYTICS, BILLING, MAIL, TASKS))]
    if not sentences:
        return Check("unknown_versions", True, "no consumer stops at an event of an unknown version")
    return Check("unknown_versions", True, " ".join(sentences), attention=True)


def dead_hook_letters(context: Context) -> Check:
    """Report the events that hooks failed on so often that they are not retried any more."""
    rows = context.connection.select(
        "SELECT hook, count(*) FROM bus_hook_letters WHERE state = 'dead' GROUP BY hook ORDER BY hook"
    )
    if not rows:
        return Check("dead_hook_letters", True, "no hook has given up an event")
    detail = "; ".join(f"{hook} has given up {counted(count, 'event')}" for hook, count in rows)
    return Check("dead_hook_letters", True, f"{detail}; see `popug hooks list`", attention=True)

"""Commands for the scheduler, and for its installation in cron or systemd."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import typer

from popug_cli.cli.context import CommandContext, command, group_command
from popug_cli.cli.install import database_variable, schedule_units
from popug_cli.cli.output.blocks import Hint
from popug_cli.cli.output.log_output import log_to_stderr
from popug_cli.kernel.calendar import Calendar
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.log import LOG, WarnOnce
from popug_cli.kernel.money import format_cents
from popug_cli.kernel.progress import Progress
from popug_cli.kernel.text import counted
from popug_cli.messages.hooks import HookRunResult
from popug_cli.messages.scheduler import RunDue, Schedule, ScheduledRunResult, ShowSchedule

DEFAULT_TIME = "00:05"
_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")

AtOption = Annotated[
    str, typer.Option("--at", metavar="HH:MM", help="When to close yesterday, in the company's time zone.")
]

group = typer.Typer()


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.add_typer(group, name="scheduler")


@group_command(group)
def scheduler(
    context: CommandContext,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="HH:MM",
            help="When to close yesterday, in the company's time zone; by default 00:05, with --once at any time.",
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Do what is due, then exit.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Allow more than 31 days to be closed at once.")] = False,
) -> None:
    """Close each day, send mail, retry events and run hooks, in the foreground until SIGINT or SIGTERM."""
    from popug_cli.daemon import hook_loop
    from popug_cli.daemon.scheduler import run_forever, run_once

    default_time = "00:00" if once else DEFAULT_TIME
    minute = parse_minute(default_time if at is None else at)
    output, folder = SchedulerOutput(context), context.home.hooks
    message = RunDue(at_minute=minute, confirmed=yes)
    with log_to_stderr(context):
        if not once:
            background = hook_loop.run_in_background(output.open_backend, folder)
            run_forever(output.open_interruptible_backend, message, output.show, background)
            return
        run = run_once(output.open_backend, message, output.show)
        hook_run = hook_loop.run_once(output.open_backend, folder)
        if hook_run.done or hook_run.failed:
            output.show(hook_run)
        if run.next.needs_yes:
            raise InvalidInput(
                "needs_yes",
                f"{counted(run.next.overdue_days, 'day is', 'days are')} open, more than 31; they were not closed.",
                hint="Check the clock, then run `popug scheduler --once --yes` to confirm.",
                details={"days": run.next.overdue_days},
            )


@command(group, "install")
def install(
    context: CommandContext,
    cron: Annotated[bool, typer.Option("--cron", help="Print a line for the crontab.")] = False,
    systemd: Annotated[bool, typer.Option("--systemd", help="Print a service and a timer for systemd.")] = False,
    at: AtOption = DEFAULT_TIME,
    write: Annotated[bool, typer.Option("--write", help="Install it instead of only printing it.")] = False,
) -> None:
    """Print what makes cron or systemd close each day; with --write install it."""
    from popug_cli.messages.principal import SCHEDULER

    if cron == systemd:
        raise InvalidInput(
            "usage", "Give either --cron or --systemd.", hint="For example: `popug scheduler install --cron`."
        )
    minute = parse_minute(at)
    schedule = context.backends.local.perform(ShowSchedule(at_minute=minute), actor=SCHEDULER)
    close_schedule = schedule_units.CloseSchedule(context.home, minute, schedule.time_zone, _machine_zone())
    plan = schedule_units.cron_plan(close_schedule) if cron else schedule_units.systemd_plan(close_schedule)
    if write:
        plan.write()
    context.screen.show(
        plan.answer(written=write),
        lambda: [*plan.texts(), *(Hint(hint) for hint in (*plan.hints(written=write), *database_variable.hints()))],
    )


def _machine_zone() -> str | None:
    """Return the name of the machine's time zone, or None if it cannot be determined."""
    from popug_cli.kernel.machine_zone import machine_zone_name

    try:
        return machine_zone_name()
    except InvalidInput:
        return None


def parse_minute(text: str) -> int:
    """Return the minute of the day of a time such as ``00:05``; raise ``invalid_time``."""
    match = _TIME_OF_DAY.fullmatch(text)
    if match is None:
        raise InvalidInput(
            "invalid_time", f"{text!r} is not a valid time of day.", hint="Write it as 00:05.", details={"time": text}
        )
    return int(match[1]) * 60 + int(match[2])


@dataclass
class SchedulerOutput:
    """Opens the backends of the scheduler, and prints each result on one line, as text or JSON.

    A warning that equals the last one is not logged again.
    """

    context: CommandContext
    warn: Callable[[str], None] = field(default_factory=lambda: WarnOnce(1))

    def open_backend(self, progress: Progress) -> Any:
        """Return a newly opened backend of the home."""
        from popug_cli.app import LocalBackend

        return LocalBackend(self.context.home, warn=self.warn, progress=progress)

    def open_interruptible_backend(self, progress: Progress) -> Any:
        """Return a newly opened backend. It also calls ``progress`` while it waits for the write lock.

        The scheduler can thus end the wait by an exception.
        """
        from popug_cli.app import LocalBackend

        def while_waiting() -> None:
            progress("Waiting for the database", 0, 0)

        return LocalBackend(self.context.home, warn=self.warn, progress=progress, while_waiting=while_waiting)

    def show(self, result: Schedule | ScheduledRunResult | HookRunResult) -> None:
        """Print and log the schedule, or the result of a run."""
        event, sentence = _describe(result)
        fields = msgspec.to_builtins(result)
        LOG.info(sentence, extra={"report": True, "event": event, "result": fields})
        if self.context.as_json:
            self.context.printer.document({"event": event, **fields})
        else:
            self.context.printer.line(sentence)
        self.context.printer.out.flush()


def _describe(result: Schedule | ScheduledRunResult | HookRunResult) -> tuple[str, str]:
    """Return the event name of a result, and a sentence that describes it."""
    if isinstance(result, Schedule):
        return "next", _as_sentence(_next_text(result))
    if isinstance(result, ScheduledRunResult):
        return "run", _run_sentence(result)
    return "hooks", f"{counted(result.done + result.failed, 'run of a hook', 'runs of hooks')}, {result.failed} failed."


def _run_sentence(run: ScheduledRunResult) -> str:
    local = Calendar(run.next.time_zone).local(run.at)
    sent = f"{counted(run.mail.sent, 'mail')} sent"
    parts = [f"closed {_closed_days_text(run)}" if run.days else "no day closed", sent]
    if run.mail.queued:
        parts.append(f"{run.mail.queued} still to be sent")
    if run.mail.failed:
        parts.append(f"{run.mail.failed} rejected permanently")
    if run.set_aside:
        parts.append(f"{counted(run.set_aside, 'event')} parked (see `popug events dead`)")
    if run.backup:
        parts.append(f"backup {run.backup}")
    return f"{local:%Y-%m-%d %H:%M} {', '.join(parts)}; {_next_text(run.next)}."


def _closed_days_text(run: ScheduledRunResult) -> str:
    first, last = run.days[0].business_date, run.days[-1].business_date
    dates = f"{first}" if first == last else f"{first} to {last} ({counted(len(run.days), 'day')})"
    payouts, cents = sum(day.paid_count for day in run.days), sum(day.payouts_cents for day in run.days)
    return f"{dates}: {counted(payouts, 'payout')}, {format_cents(cents)}"


def _next_text(schedule: Schedule) -> str:
    if schedule.needs_yes:
        overdue = counted(schedule.overdue_days, "day is", "days are")
        return f"{overdue} open, too many to close without --yes: check the clock"
    if schedule.closes_at is None:
        return "no day is open yet"
    if schedule.overdue_days:
        return f"{schedule.closes} is due now"
    local = Calendar(schedule.time_zone).local(schedule.closes_at)
    return f"next: {schedule.closes} is closed on {local:%Y-%m-%d at %H:%M} ({schedule.time_zone})"


def _as_sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."

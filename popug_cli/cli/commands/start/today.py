"""The command that shows the user's day on one screen."""

from collections.abc import Iterator
from typing import Annotated

import typer

from popug_cli.cli.commands.tasks.task_list import task_table
from popug_cli.cli.context import CommandContext, add_commands, command
from popug_cli.cli.input.dates import start_of
from popug_cli.cli.output.blocks import Block, Column, Heading, Hint, Table
from popug_cli.cli.output.relative_time import clock, when
from popug_cli.cli.state.last_seen import LastSeen
from popug_cli.kernel.clock import counts_for
from popug_cli.kernel.money import format_cents
from popug_cli.kernel.text import counted
from popug_cli.messages.today import Activity, ActivityKind, ShowToday, Today

# At most 12 characters before a name, so that a narrow terminal shows whether a task was received or completed.
TABLE_TEXTS = {
    ActivityKind.GIVEN: "given to you",
    ActivityKind.KEPT: "yours again",
    ActivityKind.TAKEN: "went to {assignee}",
    ActivityKind.COMPLETED: "completed",
    ActivityKind.PAID: "paid out",
    ActivityKind.CORRECTED: "corrected",
    ActivityKind.ROLE_CHANGED: "{role} now",
}
SENTENCES = {
    ActivityKind.GIVEN: "is yours now",
    ActivityKind.KEPT: "was drawn for you again",
    ActivityKind.TAKEN: "went to {assignee}",
    ActivityKind.COMPLETED: "completed",
    ActivityKind.PAID: "You were paid {paid}",
    ActivityKind.CORRECTED: "was corrected",
    ActivityKind.ROLE_CHANGED: "You are {role} now",
}

commands = typer.Typer()


def register(program: typer.Typer) -> None:
    """Add the command to the program."""
    add_commands(program, commands)


@command(commands, "today")
def today(
    context: CommandContext,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="WHEN", help="Show what happened since then: monday, yesterday, '2 hours ago'."
        ),
    ] = None,
    peek: Annotated[bool, typer.Option("--peek", help="Do not remember that you looked.")] = False,
) -> None:
    """Show your day: open tasks, balance, what happened since you last looked, and what to do next."""
    show_day(context, since=since, peek=peek)


def show_day(context: CommandContext, *, since: str | None = None, peek: bool = False) -> None:
    """Show the day of the user who is logged in, with what happened since ``since`` or the last look.

    Unless ``peek``, remember the last event shown.
    """
    last_seen = LastSeen(context.backends.session_key, context.backends.token or "")
    after, instant = (None, start_of(context, since)) if since is not None else last_seen.last() or (None, None)
    day = context.backends.perform(ShowToday(after=after, since=instant))
    context.screen.show(day, lambda: _day_blocks(context, day, has_looked=after is not None))
    if not peek:
        last_seen.remember(day.last_sequence, context.backends.active.now())


def _day_blocks(context: CommandContext, day: Today, *, has_looked: bool) -> Iterator[Block]:
    in_red_note = ", in the red" if day.balance_cents < 0 else ""
    yield Heading(f"{day.username} ({day.role}), {day.business_date:%A} {day.business_date}")
    earned = format_cents(day.earned_today_cents) + counts_for(day.open_business_date, day.business_date)
    yield f"Balance {format_cents(day.balance_cents)}{in_red_note}; earned today {earned}."
    if not context.backends.remote and (address := context.backends.local.runtime.database.address):
        yield f"This company is in {address}."
    if day.mail_failed:
        yield f"{counted(day.mail_failed, 'mail was', 'mails were')} rejected permanently."
    yield from day.problems
    yield ""
    yield Heading("Your open tasks, most expensive first")
    yield task_table(context, day.tasks, for_one_user=True, footer=_totals_text(day), empty="You have no open tasks.")
    yield ""
    now, calendar = context.backends.active.now(), context.backends.active.calendar
    since = f"you last looked, {when(day.since, now, calendar)}" if has_looked else clock(day.since, now, calendar)
    hidden_count = day.happened_count - len(day.happened)
    yield Heading(f"What happened since {since}")
    has_later_dates = any(activity.business_date for activity in day.happened)
    yield Table(
        (
            Column("When", drop_priority=1),
            Column("What", shrinks=True),
            Column("Task", shrinks=True),
            Column("By", drop_priority=2),
            Column("Change", align_right=True),
            *((Column("Counts for"),) if has_later_dates else ()),
        ),
        [_row(activity, when(activity.at, now, calendar), has_later_dates) for activity in day.happened],
        empty="Nothing new.",
        footer=f"and {hidden_count} before" if hidden_count else "",
    )
    if hidden_count or not day.happened:  # else the table itself ends with an empty line
        yield ""
    yield Hint("Next: " + ", or ".join(day.waiting))


def _totals_text(day: Today) -> str:
    count = f"{len(day.tasks)} of {day.open_count}" if day.open_count > len(day.tasks) else f"{day.open_count}"
    return f"{count} open; {format_cents(day.rewards_cents)} to be earned in all."


def describe(activity: Activity) -> str:
    """Return what happened as a sentence."""
    paid = format_cents(-(activity.signed_cents or 0))
    sentence = SENTENCES[activity.what].format(assignee=activity.assignee, paid=paid, role=activity.role)
    sentence += counts_for(activity.business_date)
    return f"#{activity.task.number} {activity.task.title} {sentence}" if activity.task else sentence


def _row(activity: Activity, at: str, has_later_dates: bool) -> tuple[str, ...]:
    cents = format_cents(activity.signed_cents) if activity.signed_cents is not None else ""
    task = f"#{activity.task.number} {activity.task.title}" if activity.task else ""
    what = TABLE_TEXTS[activity.what].format(assignee=activity.assignee, role=activity.role)
    later_date = f"{activity.business_date:%a %m-%d}" if activity.business_date else ""
    return at, what, task, activity.actor, cents, *((later_date,) if has_later_dates else ())

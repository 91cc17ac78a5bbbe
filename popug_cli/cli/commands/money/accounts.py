"""Commands: balance, statement, income, close-day."""

from collections.abc import Iterator
from datetime import date
from typing import Annotated

import msgspec
import typer

from popug_cli.cli.commands.money.balance_history import balances_by_day, fetch_statement, history_table
from popug_cli.cli.context import CommandContext, add_commands, command
from popug_cli.cli.input.dates import company_today, day_option, parse_date, parse_day_or_time, parse_time
from popug_cli.cli.output.blocks import Block, Column, Heading, Hint, Table
from popug_cli.kernel import charts
from popug_cli.kernel.clock import counts_for
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.money import format_cents
from popug_cli.kernel.text import counted
from popug_cli.messages.billing import (
    Balance,
    CloseDay,
    ClosedDay,
    CloseReport,
    Day,
    Entry,
    GetBalance,
    GetIncome,
    GetStatement,
    Income,
    Statement,
)

MAX_SHOWN_PAYOUTS = 50
INCOME_CHART_WIDTH = 16

NameArgument = Annotated[str | None, typer.Argument(metavar="[NAME]", help="A username; by default your own.")]
FromOption = Annotated[str | None, typer.Option("--from", metavar="DATE", help="The first date.")]
ToOption = Annotated[str | None, typer.Option("--to", metavar="DATE", help="The last date.")]
AsOfTimeOption = Annotated[str | None, typer.Option("--as-of", metavar="TIME", help="Only entries recorded by then.")]
AsOfOption = Annotated[
    str | None,
    typer.Option("--as-of", metavar="DATE_OR_TIME", help="Only entries dated up to DATE, or recorded by TIME."),
]

commands = typer.Typer()


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    add_commands(program, commands)


@command(commands, "balance")
def balance(
    context: CommandContext,
    name: NameArgument = None,
    as_of: AsOfOption = None,
    history: Annotated[bool, typer.Option("--history", help="Show the balance day by day, as a chart.")] = False,
    days: Annotated[
        int, typer.Option("--days", metavar="N", min=1, max=3660, help="With --history: show N days.")
    ] = 14,
) -> None:
    """Show a balance, and the amount earned today."""
    day, time = parse_day_or_time(as_of, company_today(context)) if as_of is not None else (None, None)
    answer = context.backends.perform(GetBalance(username=name, as_of_date=day, as_of_time=time))
    note = "" if as_of else counts_for(answer.business_date, answer.today)
    if not history:
        context.screen.show(answer, lambda: _balance_sentences(answer, note))
        return
    daily_balances = balances_by_day(context, name, answer.business_date, days, time)
    context.screen.show(
        msgspec.to_builtins(answer, builtin_types=(date,)) | {"history": daily_balances},
        lambda: [
            *_balance_sentences(answer, note),
            history_table(context, daily_balances),
        ],
        paged=True,
    )


@command(commands, "statement")
def statement(
    context: CommandContext,
    name: NameArgument = None,
    first: FromOption = None,
    last: ToOption = None,
    as_of: AsOfTimeOption = None,
) -> None:
    """Show the entries of a range of dates, each with the balance after it; by default today's."""
    message = GetStatement(
        username=name,
        from_date=day_option(context, first),
        to_date=day_option(context, last),
        as_of_time=None if as_of is None else parse_time(as_of),
    )
    answer = fetch_statement(context.backends.perform, message)
    context.screen.show(answer, lambda: _statement_blocks(context, answer))


@command(commands, "income")
def income(context: CommandContext, first: FromOption = None, last: ToOption = None, as_of: AsOfOption = None) -> None:
    """Show management's income by day; by default the last seven days."""
    day, time = parse_day_or_time(as_of, company_today(context)) if as_of is not None else (None, None)
    message = GetIncome(
        from_date=day_option(context, first), to_date=day_option(context, last), as_of_date=day, as_of_time=time
    )
    answer = context.backends.perform(message)
    context.screen.show(answer, lambda: [_income_table(context, answer)], paged=True)


@command(commands, "close-day")
def close_day(
    context: CommandContext,
    day: Annotated[
        str | None, typer.Option("--date", metavar="DATE|today|yesterday", help="The last day to close; else today.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, but change nothing.")] = False,
    no_mail: Annotated[bool, typer.Option("--no-mail", help="Queue the mail without sending it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Close without asking, also more than 31 days.")] = False,
) -> None:
    """Close every open day up to a date: pay out positive balances, record the figures, send the mail.

    At a terminal, it asks before it closes the running day, unless --date or --yes is given.
    """
    message = CloseDay(
        day=None if day in {None, "today", "yesterday"} else parse_date(day, accepted_words="today or yesterday"),
        yesterday=day == "yesterday",
        dry_run=dry_run,
        send_mail=not no_mail,
        confirmed=yes,
    )
    must_ask = day is None and not (yes or dry_run) and context.screen.can_ask()
    report = _close_with_confirmation(context, _confirm_running_day(context, message) if must_ask else message)
    context.screen.show(
        report,
        lambda: _close_report_blocks(report, dry_run=dry_run),
        next_step=_next_step_after_close(report, message, day),
    )


def _confirm_running_day(context: CommandContext, message: CloseDay) -> CloseDay:
    """Ask whether to close the running day, if it is open; return the message that closes what was shown.

    Raise ``needs_yes`` if the answer is not yes.
    """
    report = context.backends.perform(msgspec.structs.replace(message, dry_run=True))
    open_days = [day for day in report.days if not day.already_closed]
    today = company_today(context)
    if not open_days or open_days[-1].business_date != today:
        return message
    payouts_cents = sum(day.payouts_cents for day in open_days)
    payouts = counted(sum(day.paid_count for day in open_days), "payout")
    next_day = context.backends.active.calendar.next_day(today)
    context.printer.remark(
        f"{today} is not over. If you close it now, that makes {payouts}, {format_cents(payouts_cents)} in all; this"
        f" cannot be undone. What happens later today counts for {next_day:%a %m-%d}."
    )
    earlier = f" and {counted(len(open_days) - 1, 'open day')} before it" if len(open_days) > 1 else ""
    context.screen.confirm(f"Close {today}{earlier}?", yes=False)
    return msgspec.structs.replace(message, day=today, confirmed=True, expected_payouts_cents=payouts_cents)


def _next_step_after_close(report: CloseReport, message: CloseDay, day: str | None) -> str | None:
    """Return the command to suggest: after a dry run the close, without payouts the income; None for the default."""
    if message.dry_run and any(not closed_day.already_closed for closed_day in report.days):
        return "popug close-day" + (f" --date {day}" if day else "")
    return None if any(closed_day.payouts for closed_day in report.days) else "popug income"


def _close_with_confirmation(context: CommandContext, message: CloseDay) -> CloseReport:
    """Perform the close; if it needs ``--yes``, ask at the terminal and perform it again."""
    try:
        return context.backends.perform(message)
    except InvalidInput as error:
        if error.code != "needs_yes":
            raise
        context.screen.confirm(error.message, yes=False)
        return context.backends.perform(msgspec.structs.replace(message, confirmed=True))


def _balance_sentences(answer: Balance, note: str) -> Iterator[Block]:
    in_red_note = ", which is in the red" if answer.balance_cents < 0 else ""
    yield f"{answer.username} has {format_cents(answer.balance_cents)}{in_red_note}."
    yield f"Earned on {answer.business_date}: {format_cents(answer.earned_today_cents)}{note}."


def _statement_blocks(context: CommandContext, answer: Statement) -> Iterator[Block]:
    show_recorded = any(_occurred_and_recorded(context, entry)[1] for entry in answer.entries)
    columns = [
        Column("date"),
        Column("when"),
        *([Column("recorded")] if show_recorded else []),
        Column("what"),
        Column("task", shrinks=True),
        Column("amount", align_right=True),
        Column("balance", align_right=True),
    ]
    yield Heading(f"Statement of {answer.username}")
    yield f"Brought forward: {format_cents(answer.opening_balance_cents)}."
    yield Table(
        columns,
        [_entry_row(context, entry, show_recorded=show_recorded) for entry in answer.entries],
        empty="There are no entries.",
    )
    yield f"Balance: {format_cents(answer.closing_balance_cents)}."


def _entry_row(context: CommandContext, entry: Entry, *, show_recorded: bool) -> list[str]:
    occurred, recorded = _occurred_and_recorded(context, entry)
    return [
        str(entry.business_date),
        occurred,
        *([recorded] if show_recorded else []),
        entry.kind.replace("_", " "),
        f"#{entry.task.number} {entry.task.title}" if entry.task else "",
        format_cents(entry.signed_cents),
        format_cents(entry.balance_cents),
    ]


def _occurred_and_recorded(context: CommandContext, entry: Entry) -> tuple[str, str]:
    """Return the times at which an entry occurred and was recorded; the second is empty if they are equal.

    The date is left out if it is the business date.
    """
    occurred, recorded = context.screen.local_time(entry.occurred_at), context.screen.local_time(entry.recorded_at)
    day = str(entry.business_date)
    return occurred.removeprefix(f"{day} "), "" if recorded == occurred else recorded.removeprefix(f"{day} ")


def _income_table(context: CommandContext, answer: Income) -> Table:
    values = [day.income_cents for day in answer.days]
    bars = charts.bars(values, INCOME_CHART_WIDTH, ascii_only=context.printer.only_ascii)
    columns = [
        Column("date"),
        Column("fees", align_right=True),
        Column("rewards", align_right=True),
        Column("income", align_right=True),
        Column("payouts", align_right=True),
        Column("paid", align_right=True, drop_priority=2),
        Column("in the red", align_right=True, drop_priority=3),
        Column(""),
        *([Column("income by day", is_chart=True, drop_priority=1)] if len(values) > 1 else []),
    ]
    return Table(
        columns,
        [_day_row(day) + ([bar] if len(values) > 1 else []) for day, bar in zip(answer.days, bars, strict=True)],
        empty="The company had no day in this range.",
        footer=f"Management income: {format_cents(answer.total_income_cents)}.",
    )


def _day_row(day: Day) -> list[str]:
    return [
        str(day.business_date),
        format_cents(day.fees_cents),
        format_cents(day.rewards_cents),
        format_cents(day.income_cents),
        format_cents(day.payouts_cents),
        str(day.paid_count),
        str(day.in_red_count),
        "closed" if day.closed else "open",
    ]


def _close_report_blocks(report: CloseReport, *, dry_run: bool) -> Iterator[Block]:
    for day in report.days:
        yield from _closed_day_blocks(day, dry_run=dry_run)
    if not report.days:
        yield "There is nothing to close."
    elif dry_run:
        yield f"Nothing was changed; {counted(report.mail.queued, 'mail')} would be queued."
    else:
        failed = f", {report.mail.failed} rejected permanently" if report.mail.failed else ""
        yield f"{counted(report.mail.sent, 'mail')} sent, {report.mail.queued} still to be sent{failed}."
    if report.set_aside:
        yield from _parked_event_blocks(report)


def _closed_day_blocks(day: ClosedDay, *, dry_run: bool) -> Iterator[Block]:
    state = "was already closed" if day.already_closed else "would be closed" if dry_run else "is closed"
    yield Heading(f"{day.business_date} {state}.")
    yield (
        f"Income {format_cents(day.income_cents)}"
        f" (fees {format_cents(day.fees_cents)}, rewards {format_cents(day.rewards_cents)});"
        f" {day.in_red_count} in the red at its end."
    )
    hidden_count = len(day.payouts) - MAX_SHOWN_PAYOUTS
    yield Table(
        [Column("paid to"), Column("amount", align_right=True)],
        [[payout.username, format_cents(payout.amount_cents)] for payout in day.payouts[:MAX_SHOWN_PAYOUTS]],
        empty="There are no payouts.",
        footer=(f"and {hidden_count} more; " if hidden_count > 0 else "")
        + f"{counted(day.paid_count, 'payout')}, {format_cents(day.payouts_cents)} in all.",
    )


def _parked_event_blocks(report: CloseReport) -> Iterator[Block]:
    yield Table(
        [Column("event"), Column("failed in"), Column("at stake", align_right=True)],
        [[parked.event, parked.consumer, format_cents(parked.amount_cents)] for parked in report.set_aside],
        title="Not included",
    )
    yield Hint("See `popug events dead`; after a retry they count on the first open day.")

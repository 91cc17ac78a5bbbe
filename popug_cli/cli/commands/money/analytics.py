"""The command that shows analytics."""

from collections.abc import Iterator
from datetime import date, datetime
from typing import Annotated

import typer

from popug_cli.cli.context import CommandContext, add_commands, command
from popug_cli.cli.input.dates import day_option, parse_time
from popug_cli.cli.output.blocks import Block, Heading
from popug_cli.kernel import charts
from popug_cli.kernel.money import format_cents
from popug_cli.kernel.text import counted
from popug_cli.messages.analytics import Analytics, GetAnalytics, MostExpensive, MostExpensiveTask
from popug_cli.messages.billing import GetIncome

commands = typer.Typer()


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    add_commands(program, commands)


@command(commands, "analytics")
def analytics(
    context: CommandContext,
    date_: Annotated[str | None, typer.Option("--date", metavar="DATE", help="A date; today by default.")] = None,
    as_of: Annotated[str | None, typer.Option("--as-of", metavar="TIME", help="Only entries recorded by then.")] = None,
) -> None:
    """Show management's income, the number of people in the red, and the most expensive tasks."""
    time = None if as_of is None else parse_time(as_of)
    answer = context.backends.perform(GetAnalytics(day=day_option(context, date_), as_of_time=time))
    context.screen.show(answer, lambda: _analytics_blocks(context, answer, time))


def _analytics_blocks(context: CommandContext, answer: Analytics, as_of: datetime | None) -> Iterator[Block]:
    yield Heading(f"Analytics of {answer.business_date}")
    yield f"Management income  {format_cents(answer.income_cents)}"
    yield f"In the red         {counted(answer.in_red_count, 'person', 'people')}"
    yield from _income_sparkline(context, answer.business_date, as_of)
    yield ""
    yield from _period_lines(answer.most_expensive)
    yield ""
    yield from _day_lines(answer.most_expensive, answer.business_date)


def _income_sparkline(context: CommandContext, day: date, as_of: datetime | None) -> Iterator[Block]:
    """Yield the month's income up to ``day`` as a line of one character a day; nothing in plain mode or for one day."""
    days = context.backends.perform(GetIncome(from_date=day.replace(day=1), to_date=day, as_of_time=as_of)).days
    if len(days) < 2 or context.printer.plain:
        return
    values = [income_day.income_cents for income_day in days]
    line = charts.sparkline(values, ascii_only=context.printer.only_ascii)
    first = days[0].business_date
    yield f"{first:%m-%d} … {day:%m-%d}      {line}  {format_cents(min(values))} … {format_cents(max(values))}"


def _period_lines(most_expensive: MostExpensive) -> Iterator[Block]:
    yield Heading("The most expensive task")
    for name, period in (
        ("of the day", most_expensive.day),
        ("of the week", most_expensive.week),
        ("of the month", most_expensive.month),
    ):
        span = f"{period.from_date:%m-%d} … {period.to_date:%m-%d}" if period else ""
        yield f"{name:<12}  {span:<13}  {_task_text(period)}".rstrip() if period else f"{name:<12}  none"


def _day_lines(most_expensive: MostExpensive, day: date) -> Iterator[Block]:
    yield Heading("Day by day")
    if most_expensive.month_to_date is None:
        yield f"No task was completed in {day:%Y-%m} up to {day}."
        return
    for top_task in most_expensive.by_day:
        yield _day_line(f"{top_task.from_date:%m-%d}", top_task)
    to_date = most_expensive.month_to_date
    yield _day_line(f"{to_date.from_date:%m-%d} … {to_date.to_date:%m-%d}", to_date)


def _day_line(period: str, top_task: MostExpensiveTask) -> str:
    return f"{period:<13}  most expensive task  {_task_text(top_task)}"


def _task_text(top_task: MostExpensiveTask) -> str:
    return f"{format_cents(top_task.reward_cents):>3}  #{top_task.task.number:<2} {top_task.task.title}"

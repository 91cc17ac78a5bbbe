"""Commands: analytics."""

from collections.abc import Iterator
from datetime import date, datetime
from typing import Annotated

import typer

from popug_cli.cli.blocks import Block, Heading
from popug_cli.cli.dates import day_option, parse_time
from popug_cli.cli.face import Face, add_commands, command
from popug_cli.kernel import charts
from popug_cli.kernel.money import format_cents
from popug_cli.messages.analytics import Analytics, Dearest, GetAnalytics, MostExpensive
from popug_cli.messages.billing import GetIncome

commands = typer.Typer()


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    add_commands(program, commands)


@command(commands, "analytics")
def analytics(
    face: Face,
    date_: Annotated[
        str | None, typer.Option("--date", metavar="DATE", help="A date, today or yesterday; today by default.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="TIME", help="Only what was recorded by then.")
    ] = None,
) -> None:
    """Show management's income, how many are in the red, and the dearest tasks."""
    time = None if as_of is None else parse_time(as_of)
    answer = face.perform(GetAnalytics(day=day_option(face, date_), as_of_time=time))
    face.show(answer, lambda: _screen(face, answer, time))


def _screen(face: Face, answer: Analytics, as_of: datetime | None) -> Iterator[Block]:
    in_red = answer.in_red_count
    yield Heading(f"Analytics of {answer.business_date}")
    yield f"Management income  {format_cents(answer.income_cents)}"
    yield f"In the red         {in_red} {'person' if in_red == 1 else 'people'}"
    yield from _course(face, answer.business_date, as_of)
    yield ""
    yield from _periods(answer.most_expensive)
    yield ""
    yield from _by_day(answer.most_expensive, answer.business_date)


def _course(face: Face, day: date, as_of: datetime | None) -> Iterator[Block]:
    """The income of the month so far as a line of one character a day; nothing for an eye that cannot see it."""
    days = face.perform(GetIncome(from_date=day.replace(day=1), to_date=day, as_of_time=as_of)).days
    if len(days) < 2 or face.printer.plain:
        return
    values = [each.income_cents for each in days]
    line = charts.sparkline(values, ascii_only=face.printer.only_ascii)
    first = days[0].business_date
    yield f"{first:%m-%d} … {day:%m-%d}      {line}  {format_cents(min(values))} … {format_cents(max(values))}"


def _periods(found: MostExpensive) -> Iterator[Block]:
    yield Heading("The most expensive task")
    for name, period in (("of the day", found.day), ("of the week", found.week), ("of the month", found.month)):
        span = f"{period.from_date:%m-%d} … {period.to_date:%m-%d}" if period else ""
        yield f"{name:<12}  {span:<13}  {_task(period)}".rstrip() if period else f"{name:<12}  none"


def _by_day(found: MostExpensive, day: date) -> Iterator[Block]:
    yield Heading("Day by day")
    if found.month_to_date is None:
        yield f"No task was completed in {day:%Y-%m} up to {day}."
        return
    for each in found.by_day:
        yield _line(f"{each.from_date:%m-%d}", each)
    to_date = found.month_to_date
    yield _line(f"{to_date.from_date:%m-%d} … {to_date.to_date:%m-%d}", to_date)


def _line(period: str, found: Dearest) -> str:
    return f"{period:<13}  most expensive task  {_task(found)}"


def _task(found: Dearest) -> str:
    return f"{format_cents(found.reward_cents):>3}  #{found.task.number:<2} {found.task.title}"

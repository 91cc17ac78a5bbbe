"""The whole statement, and the daily balances computed from it."""

from collections.abc import Callable
from datetime import date, datetime, timedelta

import msgspec

from popug_cli.cli.context import CommandContext
from popug_cli.cli.output.blocks import Column, Table
from popug_cli.kernel import charts
from popug_cli.kernel.money import format_cents
from popug_cli.messages.base import MAX_ANSWER_ROWS
from popug_cli.messages.billing import GetStatement, Statement

CHART_WIDTH = 24


class DayBalance(msgspec.Struct, frozen=True):
    """The balance at the end of a business date, and its change on that date."""

    business_date: date
    balance_cents: int
    change_cents: int


def fetch_statement(perform: Callable[[GetStatement], Statement], message: GetStatement) -> Statement:
    """Return all entries that a message asks for; one answer has at most ``MAX_ANSWER_ROWS``."""
    page = perform(message)
    entries = [*page.entries]
    while len(page.entries) == MAX_ANSWER_ROWS:
        page = perform(msgspec.structs.replace(message, offset=message.offset + len(entries)))
        entries += page.entries
    return msgspec.structs.replace(page, entries=entries)


def balances_by_day(
    context: CommandContext,
    username: str | None,
    last: date,
    days: int,
    as_of: datetime | None,
) -> list[DayBalance]:
    """Return the balance at the end of each of ``days`` days up to ``last``."""
    first = date.fromordinal(max(1, (last - timedelta(days=days - 1)).toordinal()))
    message = GetStatement(username=username, from_date=first, to_date=last, as_of_time=as_of)
    statement = fetch_statement(context.backends.perform, message)
    end_balances = {entry.business_date: entry.balance_cents for entry in statement.entries}
    daily_balances, balance_cents = list[DayBalance](), statement.opening_balance_cents
    for day in context.backends.active.calendar.days(first, last):
        balance_before, balance_cents = balance_cents, end_balances.get(day, balance_cents)
        daily_balances.append(DayBalance(day, balance_cents, balance_cents - balance_before))
    return daily_balances


def history_table(context: CommandContext, daily_balances: list[DayBalance]) -> Table:
    """Return a table with a row and a bar for each day."""
    values = [day.balance_cents for day in daily_balances]
    bars = charts.bars(values, CHART_WIDTH, ascii_only=context.printer.only_ascii)
    columns = (
        Column("date"),
        Column("change", align_right=True),
        Column("balance", align_right=True),
        Column("", is_chart=True, drop_priority=1),
    )
    rows = [
        (f"{day.business_date}", format_cents(day.change_cents), format_cents(day.balance_cents), bar)
        for day, bar in zip(daily_balances, bars, strict=True)
    ]
    return Table(columns, rows)

"""How a balance went, day by day, from the statement."""

from datetime import date, datetime, timedelta

import msgspec

from popug_cli.cli.blocks import Column, Table
from popug_cli.cli.face import Face
from popug_cli.kernel import charts
from popug_cli.kernel.money import format_cents
from popug_cli.messages.billing import GetStatement

CHART_WIDTH = 24


class DayBalance(msgspec.Struct, frozen=True):
    """What somebody had at the end of a business date, and what that date did to it."""

    business_date: date
    balance_cents: int
    change_cents: int


def balances(
    face: Face, username: str | None, last: date, days: int, as_of: datetime | None, *, with_next: bool
) -> list[DayBalance]:
    """The balance at the end of each of some days up to the last one, and of those after it that have entries."""
    first = date.fromordinal(max(1, (last - timedelta(days=days - 1)).toordinal()))
    beyond = face.place.calendar.next_day(last) if with_next else last
    statement = face.perform(GetStatement(username=username, from_date=first, to_date=beyond, as_of_time=as_of))
    last = max([last, *(entry.business_date for entry in statement.entries[-1:])])
    ends = {entry.business_date: entry.balance_cents for entry in statement.entries}
    course, balance_cents = list[DayBalance](), statement.opening_balance_cents
    for day in face.place.calendar.days(first, last):
        before, balance_cents = balance_cents, ends.get(day, balance_cents)
        course.append(DayBalance(day, balance_cents, balance_cents - before))
    return course


def history_table(face: Face, course: list[DayBalance]) -> Table:
    """A line a day, with a bar for the balance."""
    values = [each.balance_cents for each in course]
    pictures = charts.bars(values, CHART_WIDTH, ascii_only=face.printer.only_ascii)
    columns = (
        Column("date"),
        Column("change", right=True),
        Column("balance", right=True),
        Column("", picture=True, spare=1),
    )
    rows = [
        (f"{each.business_date}", format_cents(each.change_cents), format_cents(each.balance_cents), bar)
        for each, bar in zip(course, pictures, strict=True)
    ]
    return Table(columns, rows)

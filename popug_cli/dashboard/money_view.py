"""The view of money: what one has and how it went; for accountants management's income."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from itertools import accumulate

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from popug_cli.dashboard.desk import Company, Desk
from popug_cli.dashboard.sheet import Rows, Sheet
from popug_cli.dashboard.text import heading, lines
from popug_cli.kernel.charts import bars
from popug_cli.kernel.money import format_cents
from popug_cli.messages.billing import Entry, GetIncome, GetStatement, Statement
from popug_cli.messages.today import Today

DAYS = 14
DAYS_WHERE_LOW = 7
LOW_LINES = 32
LEAST_BAR, MOST_BAR = 6, 48
Course = list[tuple[date, int]]


class MoneyView(Vertical):
    """Today's entries above the charts."""

    def __init__(self, company: Company, desk: Desk) -> None:
        super().__init__(id="money")
        self.company, self.desk = company, desk
        self.told, self.sheet = Static(classes="told"), Sheet()
        self.charts = [Static() for _ in range(2 if company.may(GetIncome) else 1)]
        self.balances: Course = []
        self.incomes: Course = []

    def compose(self) -> ComposeResult:
        """A sentence, a table, and a chart or two."""
        yield from (self.told, self.sheet, Horizontal(*self.charts, id="charts"))

    async def load(self, day: Today) -> None:
        """Ask for the entries and the figures of some days, and show them."""
        first, last = day.business_date - timedelta(days=DAYS - 1), day.business_date
        statement = await self.desk.ask(
            GetStatement(from_date=first, to_date=self.company.calendar.next_day(last))  # for after today's close
        )
        if self.company.may(GetIncome):
            income = await self.desk.ask(GetIncome(from_date=first, to_date=last))
            self.incomes = [(each.business_date, each.income_cents) for each in income.days]
        entries = [entry for entry in statement.entries if entry.business_date >= last]
        end = entries[-1].business_date if entries else last
        self.balances = course(statement, [*self.company.calendar.days(first, end)])
        self.told.update(heading(_told(entries)))
        self.sheet.show(
            Rows(
                ("time", "what", "task", "amount", "balance"),
                [[*self._cells(each)] for each in reversed(entries)],
                2,
                frozenset({3, 4}),
            )
        )
        self._draw()

    def on_resize(self) -> None:
        """Draw the charts for the new size."""
        if self.balances:
            self._draw()

    def _draw(self) -> None:
        drawn = (("My balance at the end of the day", self.balances), ("Management's income by day", self.incomes))
        days = DAYS_WHERE_LOW if self.app.size.height < LOW_LINES else DAYS
        width = (self.app.size.width - 2) // len(self.charts) - 1
        for place, (name, found) in zip(self.charts, drawn, strict=False):
            place.update(chart(name, found[-days:], width, only_ascii=self.company.only_ascii))

    def _cells(self, entry: Entry) -> Iterator[str]:
        yield f"{self.company.calendar.local(entry.occurred_at):%H:%M}"
        yield entry.kind.replace("_", " ")
        yield f"#{entry.task.number} {entry.task.title}" if entry.task else ""
        yield format_cents(entry.signed_cents)
        yield format_cents(entry.balance_cents)


def course(statement: Statement, days: Sequence[date]) -> Course:
    """The balance at the end of each day."""
    ends = {entry.business_date: entry.balance_cents for entry in statement.entries}
    balances = accumulate(days, lambda before, day: ends.get(day, before), initial=statement.opening_balance_cents)
    return [*zip(days, [*balances][1:], strict=True)]


def chart(name: str, found: Course, width: int, *, only_ascii: bool) -> Text:
    """A line a day: the date, the amount, a bar."""
    amounts = [format_cents(cents) for _, cents in found]
    widest = max((len(amount) for amount in amounts), default=0)
    room = max(LEAST_BAR, min(MOST_BAR, width - len("Mon 11-23  ") - widest - 2))
    pictures = bars([cents for _, cents in found], room, ascii_only=only_ascii)
    told = zip(found, amounts, pictures, strict=True)
    return lines(
        [heading(name), *(f"{day:%a %m-%d}  {amount:>{widest}}  {picture}" for (day, _), amount, picture in told)]
    )


def _told(entries: Sequence[Entry]) -> str:
    if not entries:
        return "Today's entries: none yet."
    count = f"{len(entries):,}"
    return f"Today's entries: {count}, {format_cents(sum(entry.signed_cents for entry in entries))} in all."

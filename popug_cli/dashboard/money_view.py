"""The money view: the user's entries and daily balances; for accountants and admins also management's income."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from itertools import accumulate

from msgspec.structs import replace
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from popug_cli.dashboard.fitted_table import FittedTable, Rows
from popug_cli.dashboard.text import heading, lines
from popug_cli.dashboard.worker import Company, MessageWorker
from popug_cli.kernel.charts import bars
from popug_cli.kernel.money import format_cents
from popug_cli.messages.base import MAX_ANSWER_ROWS
from popug_cli.messages.billing import Entry, GetIncome, GetStatement, Statement
from popug_cli.messages.today import Today

CHART_DAYS = 14
CHART_DAYS_ON_SHORT_SCREEN = 7
CHART_DAYS_WHEN_STACKED = 3
SHORT_SCREEN_LINES = 32
MIN_BAR_WIDTH, MAX_BAR_WIDTH = 6, 48
DailyAmounts = list[tuple[date, int]]


class MoneyView(Vertical):
    """Today's entries, with the charts below."""

    def __init__(self, company: Company, worker: MessageWorker) -> None:
        super().__init__(id="money")
        self.company, self.worker = company, worker
        self.header, self.table = Static(classes="header"), FittedTable()
        self.charts = [Static() for _ in range(2 if company.may(GetIncome) else 1)]
        self.balances: DailyAmounts = []
        self.incomes: DailyAmounts = []

    def compose(self) -> ComposeResult:
        """Lay out the summary, the table and the charts."""
        yield from (self.header, self.table, Horizontal(*self.charts, id="charts"))

    async def load(self, day: Today) -> None:
        """Request the entries and figures of the last ``CHART_DAYS`` days and show them."""
        first, last = day.business_date - timedelta(days=CHART_DAYS - 1), day.business_date
        statement = await self._fetch_statement(first)
        if self.company.may(GetIncome):
            income = await self.worker.ask(GetIncome(from_date=first, to_date=last))
            self.incomes = [(row.business_date, row.income_cents) for row in income.days]
        entries = [entry for entry in statement.entries if entry.business_date >= last]
        last_entry_day = entries[-1].business_date if entries else last
        self.balances = daily_balances(statement, [*self.company.calendar.days(first, last_entry_day)])
        self.header.update(heading(_summary(entries)))
        self.table.show(self._rows(entries, last))
        self._draw()

    async def _fetch_statement(self, first: date) -> Statement:
        """Request all entries from a date on. What happens after today's close counts for a later date."""
        message = GetStatement(from_date=first)
        page = await self.worker.ask(message)
        entries = [*page.entries]
        while len(page.entries) == MAX_ANSWER_ROWS:
            page = await self.worker.ask(replace(message, offset=len(entries)))
            entries += page.entries
        return replace(page, entries=entries)

    def on_resize(self) -> None:
        """Draw the charts for the new size."""
        if self.balances:
            self._draw()

    def _draw(self) -> None:
        charts = (("My balance by day", self.balances), ("Management's income by day", self.incomes))
        days = CHART_DAYS_ON_SHORT_SCREEN if self.app.size.height < SHORT_SCREEN_LINES else CHART_DAYS
        width = (self.app.size.width - 2) // len(self.charts) - 1
        is_stacked = any(chart_width(series[-days:], MIN_BAR_WIDTH) > width for _, series in charts)
        self.query_one("#charts").set_class(is_stacked, "stacked")
        if is_stacked:
            width, days = self.app.size.width - 2, min(days, CHART_DAYS_WHEN_STACKED)
        for chart_widget, (name, series) in zip(self.charts, charts, strict=False):
            chart_widget.update(chart(name, series[-days:], width, only_ascii=self.company.only_ascii))

    def _rows(self, entries: Sequence[Entry], today: date) -> Rows:
        """Return the entries, the latest first."""
        return Rows(
            ("time", "what", "task", "amount", "balance"),
            [[*self._cells(entry, today)] for entry in reversed(entries)],
            flexible_column=2,
            number_columns=frozenset({0, 3, 4}),
        )

    def _cells(self, entry: Entry, today: date) -> Iterator[str]:
        """Yield the cells of an entry; if it counts for another date than today, the date replaces the time."""
        if entry.business_date == today:
            yield f"{self.company.calendar.local(entry.occurred_at):%H:%M}"
        else:
            yield f"{entry.business_date:%a %m-%d}"
        yield entry.kind.replace("_", " ")
        yield f"#{entry.task.number} {entry.task.title}" if entry.task else ""
        yield format_cents(entry.signed_cents)
        yield format_cents(entry.balance_cents)


def daily_balances(statement: Statement, days: Sequence[date]) -> DailyAmounts:
    """Return the balance at the end of each day."""
    closing_balances = {entry.business_date: entry.balance_cents for entry in statement.entries}
    balances = accumulate(
        days, lambda previous, day: closing_balances.get(day, previous), initial=statement.opening_balance_cents
    )
    return [*zip(days, [*balances][1:], strict=True)]


def chart_width(series: DailyAmounts, bar_width: int) -> int:
    """Return the width in cells of a chart whose bars have at most ``bar_width`` cells."""
    amount_width = max((len(format_cents(cents)) for _, cents in series), default=0)
    return len("Mon 11-23  ") + amount_width + len("  ") + bar_width


def chart(name: str, series: DailyAmounts, width: int, *, only_ascii: bool) -> Text:
    """Draw a line per day: the date, the amount, a bar."""
    amounts = [format_cents(cents) for _, cents in series]
    amount_width = max((len(amount) for amount in amounts), default=0)
    bar_width = max(MIN_BAR_WIDTH, min(MAX_BAR_WIDTH, width - chart_width(series, 0)))
    drawn_bars = bars([cents for _, cents in series], bar_width, ascii_only=only_ascii)
    rows = zip(series, amounts, drawn_bars, strict=True)
    return lines(
        [heading(name), *(f"{day:%a %m-%d}  {amount:>{amount_width}}  {bar}" for (day, _), amount, bar in rows)]
    )


def _summary(entries: Sequence[Entry]) -> str:
    if not entries:
        return "Today's entries: none yet."
    count = f"{len(entries):,}"
    return f"Today's entries: {count}, {format_cents(sum(entry.signed_cents for entry in entries))} in all."

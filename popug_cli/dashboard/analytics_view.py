"""The view of analytics: income today, who is in the red, the dearest tasks."""

from collections.abc import Iterator
from datetime import date

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from popug_cli.dashboard.desk import Company, Desk
from popug_cli.dashboard.text import heading, lines, plain
from popug_cli.kernel.money import format_cents
from popug_cli.messages.analytics import Analytics, Dearest, GetAnalytics, MostExpensive
from popug_cli.messages.billing import InRed, ListInRed
from popug_cli.messages.today import Today

NAMES_SHOWN = 20


class AnalyticsView(Vertical):
    """One text that scrolls."""

    def __init__(self, company: Company, desk: Desk) -> None:
        super().__init__(id="analytics")
        self.company, self.desk = company, desk
        self.told = Static()

    def compose(self) -> ComposeResult:
        """The text."""
        yield VerticalScroll(self.told)

    async def load(self, day: Today) -> None:
        """Ask for the figures of today and show them."""
        found = await self.desk.ask(GetAnalytics(day=day.business_date))
        in_red = await self.desk.ask(ListInRed(limit=NAMES_SHOWN))
        self.told.update(lines([*_figures(found, in_red), *_dearest(found)]))


def _figures(found: Analytics, in_red: InRed) -> Iterator[str | Text]:
    yield heading(f"Management's income today  {format_cents(found.income_cents)}")
    yield ""
    yield heading(f"In the red  {in_red.total:,} {'person' if in_red.total == 1 else 'people'}")
    widest = max((len(each.username) for each in in_red.people), default=0)
    for each in in_red.people:
        yield f"  {each.username:<{widest}}  {format_cents(each.balance_cents):>8}"
    if in_red.total > len(in_red.people):
        yield f"  and {in_red.total - len(in_red.people):,} more"
    yield ""


def _dearest(found: Analytics) -> Iterator[str | Text]:
    dearest = found.most_expensive
    yield heading("The dearest completed task")
    for name, period in (("of the day", dearest.day), ("of the week", dearest.week), ("of the month", dearest.month)):
        yield f"  {name:<12}  {_task(period) if period else 'none yet'}"
    if dearest.by_day:
        yield ""
        yield heading("Day by day, this month")
        yield from _by_day(dearest, found.business_date)


def _by_day(dearest: MostExpensive, today: date) -> Iterator[str | Text]:
    for each in dearest.by_day:
        name = "today" if each.from_date == today else f"{each.from_date:%a %m-%d}"
        yield plain(f"  {name:<12}  {_task(each)}")


def _task(found: Dearest) -> str:
    return f"{format_cents(found.reward_cents):>4}  #{found.task.number} {found.task.title}"

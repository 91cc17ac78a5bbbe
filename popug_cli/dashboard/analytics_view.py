"""The analytics view: income today, users in the red, the most expensive tasks."""

from collections.abc import Iterator
from datetime import date

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from popug_cli.dashboard.text import heading, lines, plain
from popug_cli.dashboard.worker import Company, MessageWorker
from popug_cli.kernel.money import format_cents
from popug_cli.messages.analytics import Analytics, GetAnalytics, MostExpensive, MostExpensiveTask
from popug_cli.messages.billing import InRed, ListInRed
from popug_cli.messages.today import Today

NAMES_SHOWN = 20


class AnalyticsView(Vertical):
    """A scrolling text."""

    def __init__(self, company: Company, worker: MessageWorker) -> None:
        super().__init__(id="analytics")
        self.company, self.worker = company, worker
        self.header = Static()

    def compose(self) -> ComposeResult:
        """Lay out the text."""
        yield VerticalScroll(self.header)

    async def load(self, day: Today) -> None:
        """Request today's figures and show them."""
        analytics = await self.worker.ask(GetAnalytics(day=day.business_date))
        in_red = await self.worker.ask(ListInRed(limit=NAMES_SHOWN))
        self.header.update(lines([*_figures(analytics, in_red), *_most_expensive(analytics)]))


def _figures(analytics: Analytics, in_red: InRed) -> Iterator[str | Text]:
    yield heading(f"Management's income today  {format_cents(analytics.income_cents)}")
    yield ""
    yield heading(f"In the red  {in_red.total:,} {'person' if in_red.total == 1 else 'people'}")
    widest = max((len(person.username) for person in in_red.people), default=0)
    for person in in_red.people:
        yield f"  {person.username:<{widest}}  {format_cents(person.balance_cents):>8}"
    if in_red.total > len(in_red.people):
        yield f"  and {in_red.total - len(in_red.people):,} more"
    yield ""


def _most_expensive(analytics: Analytics) -> Iterator[str | Text]:
    most_expensive = analytics.most_expensive
    yield heading("The most expensive completed task")
    for name, period in (
        ("of the day", most_expensive.day),
        ("of the week", most_expensive.week),
        ("of the month", most_expensive.month),
    ):
        yield f"  {name:<12}  {_task(period) if period else 'none yet'}"
    if most_expensive.by_day:
        yield ""
        yield heading("Day by day, this month")
        yield from _by_day(most_expensive, analytics.business_date)


def _by_day(most_expensive: MostExpensive, today: date) -> Iterator[str | Text]:
    for top_task in most_expensive.by_day:
        name = "today" if top_task.from_date == today else f"{top_task.from_date:%a %m-%d}"
        yield plain(f"  {name:<12}  {_task(top_task)}")


def _task(top_task: MostExpensiveTask) -> str:
    return f"{format_cents(top_task.reward_cents):>4}  #{top_task.task.number} {top_task.task.title}"

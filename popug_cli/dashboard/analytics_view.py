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
from popug_cli.kernel.text import counted
from popug_cli.messages.analytics import Analytics, GetAnalytics, MostExpensive, MostExpensiveTask
from popug_cli.messages.billing import InRed, ListInRed
from popug_cli.messages.today import Today

MAX_NAMES = 20


class AnalyticsView(Vertical):
    """The figures as a text that scrolls."""

    def __init__(self, company: Company, worker: MessageWorker) -> None:
        super().__init__(id="analytics")
        self.company, self.worker = company, worker
        self.content = Static()

    def compose(self) -> ComposeResult:
        """Lay out the text."""
        yield VerticalScroll(self.content)

    async def load(self, day: Today) -> None:
        """Request today's figures and show them."""
        analytics = await self.worker.ask(GetAnalytics(day=day.business_date))
        in_red = await self.worker.ask(ListInRed(limit=MAX_NAMES))
        self.content.update(lines([*_income_and_red_lines(analytics, in_red), *_most_expensive_lines(analytics)]))


def _income_and_red_lines(analytics: Analytics, in_red: InRed) -> Iterator[str | Text]:
    yield heading(f"Management's income today  {format_cents(analytics.income_cents)}")
    yield ""
    yield heading(f"In the red  {counted(in_red.total, 'person', 'people')}")
    amounts = [format_cents(person.balance_cents) for person in in_red.people]
    width = max(map(len, amounts), default=0)
    for person, amount in zip(in_red.people, amounts, strict=True):
        yield f"  {amount:>{width}}  {person.username}"
    if in_red.total > len(in_red.people):
        yield f"  and {in_red.total - len(in_red.people):,} more"
    yield ""


def _most_expensive_lines(analytics: Analytics) -> Iterator[str | Text]:
    most_expensive_tasks = analytics.most_expensive
    yield heading("The most expensive completed task")
    for name, top_task in (
        ("of the day", most_expensive_tasks.day),
        ("of the week", most_expensive_tasks.week),
        ("of the month", most_expensive_tasks.month),
    ):
        yield f"  {name:<12}  {_describe_task(top_task) if top_task else 'none yet'}"
    if most_expensive_tasks.by_day:
        yield ""
        yield heading("Day by day, this month")
        yield from _by_day(most_expensive_tasks, analytics.business_date)


def _by_day(most_expensive_tasks: MostExpensive, today: date) -> Iterator[str | Text]:
    for top_task in most_expensive_tasks.by_day:
        name = "today" if top_task.from_date == today else f"{top_task.from_date:%a %m-%d}"
        yield plain(f"  {name:<12}  {_describe_task(top_task)}")


def _describe_task(top_task: MostExpensiveTask) -> str:
    return f"{format_cents(top_task.reward_cents):>4}  #{top_task.task.number} {top_task.task.title}"

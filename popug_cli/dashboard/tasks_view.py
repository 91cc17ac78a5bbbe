"""The tasks view: the user's own tasks or all tasks; a key completes one."""

from collections.abc import Iterator
from datetime import datetime
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from popug_cli.dashboard.fitted_table import FittedTable, Rows
from popug_cli.dashboard.text import heading
from popug_cli.dashboard.worker import Company, MessageWorker
from popug_cli.kernel.money import format_cents
from popug_cli.messages.tasks import ListTasks, StatusFilter, Task, TaskPage
from popug_cli.messages.today import Today

PAGE_TASKS = 200


class TasksView(Vertical):
    """A page of tasks. Keys switch the owner, the status and the page."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "app.complete", "Complete"),
        Binding("d", "app.detail", "Details"),
        Binding("a", "toggle_owner", "Own/all"),
        Binding("o", "toggle_status", "Status"),
        Binding("n", "turn(1)", "Next"),
        Binding("p", "turn(-1)", "Back"),
        Binding("s", "app.shuffle", "Shuffle"),
    ]

    def __init__(self, company: Company, worker: MessageWorker) -> None:
        super().__init__(id="tasks")
        self.company, self.worker = company, worker
        self.header, self.table = Static(classes="header"), FittedTable()
        self.shows_all_users, self.status, self.page = False, StatusFilter.OPEN, 0
        self.tasks: list[Task] = []
        self.total = 0

    def compose(self) -> ComposeResult:
        """Lay out the summary and the table."""
        yield from (self.header, self.table)

    @property
    def task_at_cursor(self) -> Task | None:
        """Return the task at the cursor, or None."""
        return next((task for task in self.tasks if str(task.number) == self.table.first_cell_at_cursor), None)

    async def load(self, day: Today) -> None:
        """Request the page and show it; show the last page if the list has become shorter."""
        task_page = await self.worker.ask(self._message())
        if not task_page.tasks and self.page:
            self.page = max(0, task_page.total - 1) // PAGE_TASKS
            task_page = await self.worker.ask(self._message())
        self.tasks, self.total = task_page.tasks, task_page.total
        self.header.update(heading(self._summary(task_page)))
        self.table.show(self._rows())
        self.refresh_bindings()

    async def action_toggle_owner(self) -> None:
        """Switch between the user's own tasks and all tasks."""
        self.shows_all_users, self.page = not self.shows_all_users, 0
        await self.app.run_action("app.reload")

    async def action_toggle_status(self) -> None:
        """Switch between open tasks and tasks of every status."""
        self.status = StatusFilter.ALL if self.status is StatusFilter.OPEN else StatusFilter.OPEN
        self.page = 0
        await self.app.run_action("app.reload")

    async def action_turn(self, pages: int) -> None:
        """Go `pages` pages forward, or back if negative."""
        self.page += pages
        self.table.move_cursor(row=0)
        await self.app.run_action("app.reload")

    def detail(self, task: Task) -> str:
        """Describe a task in a few sentences."""
        name = f"#{task.number} {task.title}" + (f" ({task.jira_id})" if task.jira_id else "")
        completed = f", completed {self._at(task.completed_at)}" if task.completed_at else ""
        prices = f"fee {price(task.fee_cents)}, reward {price(task.reward_cents)}"
        created, assignee = f"created by {task.creator}, {self._at(task.created_at)}", f"assigned to {task.assignee}"
        return f"{name}: {created}; {assignee}{completed}; {prices}."

    def _at(self, instant: datetime) -> str:
        return f"{self.company.calendar.local(instant):%Y-%m-%d %H:%M}"

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable turning before the first page and beyond the last."""
        if action == "turn":
            return self.page > 0 if parameters == (-1,) else (self.page + 1) * PAGE_TASKS < self.total
        return True

    def _message(self) -> ListTasks:
        assignee = None if self.shows_all_users else self.company.user.username
        return ListTasks(status=self.status, assignee=assignee, limit=PAGE_TASKS, offset=self.page * PAGE_TASKS)

    def _summary(self, task_page: TaskPage) -> str:
        owner = "All" if self.shows_all_users else "My"
        kind = "open tasks" if self.status is StatusFilter.OPEN else "tasks, open and completed"
        if not task_page.total:
            return f"{owner} {kind}: none."
        first = self.page * PAGE_TASKS + 1
        page_range = f"{first:,}-{first + len(task_page.tasks) - 1:,} of " if task_page.total > PAGE_TASKS else ""
        sums = f"fees {format_cents(task_page.fees_cents)}, rewards {format_cents(task_page.rewards_cents)}"
        return f"{owner} {kind}: {page_range}{task_page.total:,}; {sums} in all."

    def _rows(self) -> Rows:
        status_column = ["status"] if self.status is StatusFilter.ALL else []
        assignee_column = ["assignee"] if self.shows_all_users else []
        names = ["#", "task", *status_column, *assignee_column, "fee", "reward"]
        return Rows(
            names,
            [[*self._cells(task)] for task in self.tasks],
            flexible_column=1,
            number_columns=frozenset({0, len(names) - 1, len(names) - 2}),
        )

    def _cells(self, task: Task) -> Iterator[str]:
        yield str(task.number)
        yield f"{task.jira_id} {task.title}" if task.jira_id else task.title
        if self.status is StatusFilter.ALL:
            yield task.status
        if self.shows_all_users:
            yield task.assignee
        yield price(task.fee_cents)
        yield price(task.reward_cents)


def price(cents: int | None) -> str:
    """Format a price; empty if there is none yet."""
    return "" if cents is None else format_cents(cents)

"""The Textual application: three views, a message line, and a loop that refreshes them."""

from asyncio import AbstractEventLoop, get_running_loop, sleep
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import ClassVar, TypeVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import ContentSwitcher, Footer, Static
from textual.worker import Worker, WorkerFailed

from popug_cli.dashboard.analytics_view import AnalyticsView
from popug_cli.dashboard.confirm import Confirm
from popug_cli.dashboard.money_view import MoneyView
from popug_cli.dashboard.tasks_view import TasksView
from popug_cli.dashboard.terminal_watch import watched_terminal
from popug_cli.dashboard.text import justify, lines, wrapped
from popug_cli.dashboard.worker import Company, MessageWorker
from popug_cli.kernel.clock import counts_for
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.money import format_cents
from popug_cli.kernel.text import counted
from popug_cli.messages.analytics import GetAnalytics
from popug_cli.messages.base import Message
from popug_cli.messages.tasks import CompleteTask, ListTasks, ShuffleTasks, StatusFilter
from popug_cli.messages.today import Activity, ActivityKind, ShowToday, Today

Answer = TypeVar("Answer")
ScreenUpdate = Callable[[], Coroutine[None, None, None]]
View = TasksView | MoneyView | AnalyticsView
STYLES = """
Screen { layout: vertical; }
#user { height: auto; padding: 0 1; }
#views { height: 1; padding: 0 1; }
#user { text-style: bold; }
ContentSwitcher { height: 1fr; padding: 0 1; }
#news, #message { height: auto; max-height: 12; padding: 0 1; }
#message.error { color: ansi_red; }
.header { height: auto; }
FittedTable { height: 1fr; background: ansi_default; }
FittedTable, VerticalScroll { scrollbar-size: 1 1; scrollbar-background: ansi_default; }
FittedTable, VerticalScroll { scrollbar-background-hover: ansi_default; scrollbar-background-active: ansi_default; }
FittedTable:nocolor, VerticalScroll:nocolor { scrollbar-size: 0 0; }
FittedTable > .datatable--header { background: ansi_default; color: ansi_default; text-style: bold; }
FittedTable > .datatable--cursor { background: ansi_default; color: ansi_default; text-style: reverse; }
FittedTable > .datatable--hover { background: ansi_default; }
#charts { height: auto; margin-bottom: 1; }
#charts.stacked { layout: vertical; margin-bottom: 0; }
#charts Static { width: 1fr; height: auto; padding-right: 1; }
Footer { background: ansi_default; }
FooterKey { background: ansi_default; color: ansi_default; }
FooterKey .footer-key--key { background: ansi_default; color: ansi_default; text-style: bold; }
FooterKey .footer-key--description { background: ansi_default; color: ansi_default; }
Confirm { align: center middle; background: ansi_default; }
#question { width: 60; max-width: 100%; height: auto; border: round ansi_default; padding: 1 2; }
Confirm.ascii #question { border: ascii ansi_default; }
#question Static { width: 100%; height: auto; }
#answers { margin-top: 1; }
"""


class Dashboard(App[None]):
    """Shows a company live to one user."""

    CSS = STYLES
    TITLE = "popug"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "show('tasks')", show=False),
        Binding("2", "show('money')", show=False),
        Binding("3", "show('analytics')", show=False),
        Binding("tab", "turn(1)", show=False, priority=True),
        Binding("shift+tab", "turn(-1)", show=False, priority=True),
        Binding("q", "leave", "Quit"),
        Binding("ctrl+c,ctrl+q", "leave", show=False, priority=True),
    ]

    def __init__(self, company: Company) -> None:
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self.company, self.worker = company, MessageWorker(company.perform)
        self.tasks = TasksView(company, self.worker)
        self.views: dict[str, View] = {"tasks": self.tasks, "money": MoneyView(company, self.worker)}
        if company.may(GetAnalytics):
            self.views["analytics"] = AnalyticsView(company, self.worker)
        self.switcher = ContentSwitcher(*self.views.values(), initial="tasks")
        self.user_line, self.tabs = Static(id="user"), Static(id="views")
        self.news, self.message_line = Static(id="news"), Static(id="message")
        self.day: Today | None = None
        self.crash: BaseException | None = None
        self.loop: AbstractEventLoop | None = None
        self._is_sending = self._has_error = self._is_loading = self._is_stale = False

    def compose(self) -> ComposeResult:
        """Lay out the header of two lines, the views, the news line, the message line and the keys."""
        yield from (self.user_line, self.tabs, self.switcher, self.news, self.message_line, Footer())

    def on_mount(self) -> None:
        """Show the tasks and start the refresh loop."""
        self.loop = get_running_loop()
        self.news.display = self.message_line.display = False
        self._update_header()
        self.view.query("FittedTable, VerticalScroll").first().focus()
        self._run_in_background(self._refresh_loop)

    def on_unmount(self) -> None:
        """Stop the message worker."""
        self.worker.close()

    def on_resize(self) -> None:
        """Fit the header to the new width."""
        self._update_header()

    @property
    def view_name(self) -> str:
        """Return the name of the visible view."""
        return self.switcher.current or "tasks"

    @property
    def view(self) -> View:
        """Return the visible view."""
        return self.views[self.view_name]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the keys of actions that the user may not perform, and of other views while a question is open."""
        if action == "shuffle":
            return self.company.may(ShuffleTasks)
        if action == "show":
            return parameters[0] in self.views and len(self.screen_stack) == 1
        return len(self.screen_stack) == 1 if action == "turn" else True

    def action_show(self, name: str) -> None:
        """Show the view `name`."""
        self.switcher.current = name
        self._update_header()
        self.view.query("FittedTable, VerticalScroll").first().focus()
        self.action_reload()

    def action_turn(self, steps: int) -> None:
        """Show the view that is `steps` tabs further."""
        names = [*self.views]
        self.action_show(names[(names.index(self.view_name) + steps) % len(names)])

    def action_reload(self) -> None:
        """Reload the view, after the current load if there is one."""
        self._is_stale = True
        if not self._is_loading:
            self._run_in_background(self._load)

    def action_leave(self) -> None:
        """Quit the application."""
        self.leave()

    def leave(self) -> None:
        """Quit the application without waiting for outstanding answers."""
        self.workers.cancel_all()
        self.exit()

    def leave_soon(self) -> None:
        """Quit the application; may be called by any thread."""
        if self.loop is not None:
            with suppress(RuntimeError):  # the loop has ended already
                self.loop.call_soon_threadsafe(self.leave)

    def action_complete(self) -> None:
        """Complete the task at the cursor."""
        task = self.tasks.task_at_cursor
        if task is None:
            self.show_message("There is no task to complete here.")
        elif not self._is_sending:
            self._run_in_background(partial(self._complete, task.number))

    def action_detail(self) -> None:
        """Show all details of the task at the cursor, with its full title."""
        if (task := self.tasks.task_at_cursor) is not None:
            self.show_message(self.tasks.detail(task))

    def on_data_table_row_selected(self) -> None:
        """Show the details of a task on Enter."""
        if self.view_name == "tasks":
            self.action_detail()

    def action_shuffle(self) -> None:
        """Ask for confirmation, then draw a new assignee for every open task."""
        if not self._is_sending:
            self._run_in_background(self._shuffle)

    def show_message(self, sentence: str, *, is_error: bool = False) -> None:
        """Show a sentence until the next one."""
        self.message_line.set_class(is_error, "error")
        self.message_line.display = bool(sentence)
        self.message_line.update(wrapped(sentence))

    def show_error(self, error: PopugError) -> None:
        """Show an error and its hint."""
        self.show_message(f"! {error.message} {error.hint}".rstrip(), is_error=True)

    def _fatal_error(self) -> None:
        """Quit on an internal error, without the traceback that Textual would print."""
        error = self._exception
        self.crash = error.error if isinstance(error, WorkerFailed) else error
        self._close_messages_no_wait()

    def _run_in_background(self, update: ScreenUpdate) -> None:
        """Run a coroutine while the screen stays responsive."""
        _: Worker[None] = self.run_worker(update)

    async def _complete(self, number: int) -> None:
        if (done := await self._send(CompleteTask(number=number))) is not None:
            note = counts_for(self.day.open_business_date, self.day.business_date) if self.day else ""
            self.show_message(
                f"#{done.number} {done.title} is completed; it brought {format_cents(done.reward_cents or 0)}{note}."
            )

    async def _shuffle(self) -> None:
        page = await self._send(ListTasks(status=StatusFilter.OPEN, limit=1))
        if page is None:
            return
        count = counted(page.total, "open task")
        question = f"Draw a new assignee for {count}? Each assignee pays the fee again; this cannot be undone."
        if not await self.push_screen_wait(Confirm(question, only_ascii=self.company.only_ascii)):
            self.show_message("Nothing was shuffled.")
        elif (done := await self._send(ShuffleTasks(), f"Shuffling {count} …")) is not None:
            people = counted(done.candidates_count, "person", "people")
            self.show_message(f"{counted(done.task_count, 'task')} shuffled among {people}.")

    async def _send(self, message: Message[Answer], progress_text: str = "") -> Answer | None:
        """Send the message that a key triggers. Return the answer, or show the error and return None."""
        self._is_sending = True
        self.show_message(progress_text)
        try:
            return await self.worker.ask(message)
        except PopugError as error:
            self.show_error(error)
            return None
        finally:
            self._is_sending = False
            self.action_reload()

    async def _refresh_loop(self) -> None:
        while True:
            await self._check_for_changes()
            await sleep(self.company.refresh_seconds)

    async def _check_for_changes(self) -> None:
        """Check for new events and warnings, and reload the view if there are new events or the date has changed."""
        previous_day = self.day
        try:
            self.day = day = await self.worker.ask(
                ShowToday(after=previous_day.last_sequence if previous_day else None)
            )
        except PopugError as error:
            self._has_error = True
            self.show_error(error)
            return
        if self._has_error:
            self._has_error = False
            self.show_message("")
        self._show_activity(day.happened if previous_day else [], self.company.warnings())
        self._update_header()
        if previous_day is None or (previous_day.last_sequence, previous_day.business_date) != (
            day.last_sequence,
            day.business_date,
        ):
            self.action_reload()

    async def _load(self) -> None:
        self._is_loading = True
        try:
            while self._is_stale and self.day is not None:
                self._is_stale = False
                await self.view.load(self.day)
        except PopugError as error:
            self.show_error(error)
        finally:
            self._is_loading = False

    def _show_activity(self, activities: list[Activity], warnings: list[str]) -> None:
        """Show the latest warning or, if there is none, the latest activity that is not a completed task."""
        sentences = [
            (activity.at, self.company.describe(activity))
            for activity in activities
            if activity.what is not ActivityKind.COMPLETED
        ]
        if sentences:
            more_text = f" (and {len(sentences) - 1} more)" if len(sentences) > 1 else ""
            instant, sentence = sentences[-1]
            at = f"{self.company.calendar.local(instant):%H:%M}"
            self._show_news(f"{at} {sentence}{more_text}")
        if warnings:
            self._show_news(warnings[-1])

    def _show_news(self, sentence: str) -> None:
        self.news.display = True
        self.news.update(wrapped(sentence))

    def _update_header(self) -> None:
        """Show user, date and balance, and the tabs with the visible view highlighted."""
        user, day, width = self.company.user, self.day, self.size.width - 2
        left, right = f"{user.username} ({user.role})", "…"
        if day is not None:
            in_red = ", in the red" if day.balance_cents < 0 else ""
            left += f"  {day.business_date:%a} {day.business_date}"
            earned = f"earned today {format_cents(day.earned_today_cents)}"
            earned += counts_for(day.open_business_date, day.business_date)
            right = f"balance {format_cents(day.balance_cents)}{in_red}, {earned}"
        self.user_line.update(lines(justify(left, right, width)))
        self.tabs.update(self._view_tabs())

    def _view_tabs(self) -> Text:
        names = Text()
        for number, name in enumerate(self.views, start=1):
            is_shown = name == self.view_name
            names.append(
                f"[{number} {name}]" if is_shown else f" {number} {name} ", style="bold reverse" if is_shown else ""
            )
            names.append("  ")
        return names


def run(company: Company) -> None:
    """Run the dashboard until the user quits; raise the internal error that ended it, if any."""
    dashboard = Dashboard(company)
    with watched_terminal(dashboard.leave_soon) as watch:
        dashboard.run()
    if dashboard.crash is not None and not watch.has_vanished:
        raise dashboard.crash

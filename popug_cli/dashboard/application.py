"""The application: three views, a line for what was said, and the pulse that keeps them true."""

import signal
from asyncio import get_running_loop, sleep
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
from popug_cli.dashboard.desk import Company, Desk
from popug_cli.dashboard.money_view import MoneyView
from popug_cli.dashboard.tasks_view import TasksView
from popug_cli.dashboard.text import beside, plain, wrapped
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.money import format_cents
from popug_cli.messages.analytics import GetAnalytics
from popug_cli.messages.base import Message
from popug_cli.messages.tasks import CompleteTask, ListTasks, ShuffleTasks, StatusFilter
from popug_cli.messages.today import Happening, News, ShowToday, Today

Answer = TypeVar("Answer")
Work = Callable[[], Coroutine[None, None, None]]
View = TasksView | MoneyView | AnalyticsView
STYLES = """
Screen { layout: vertical; }
#who, #views { height: 1; padding: 0 1; }
#who { text-style: bold; }
ContentSwitcher { height: 1fr; padding: 0 1; }
#news, #said { height: auto; max-height: 4; padding: 0 1; }
#said.error { color: ansi_red; }
.told { height: auto; }
Sheet { height: 1fr; background: ansi_default; }
Sheet, VerticalScroll { scrollbar-size: 1 1; scrollbar-background: ansi_default; }
Sheet, VerticalScroll { scrollbar-background-hover: ansi_default; scrollbar-background-active: ansi_default; }
Sheet:nocolor, VerticalScroll:nocolor { scrollbar-size: 0 0; }
Sheet > .datatable--header { background: ansi_default; color: ansi_default; text-style: bold; }
Sheet > .datatable--cursor { background: ansi_default; color: ansi_default; text-style: reverse; }
Sheet > .datatable--hover { background: ansi_default; }
#charts { height: auto; margin-bottom: 1; }
#charts Static { width: 1fr; height: auto; }
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
    """Shows a company to one of its people, live."""

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
        self.company, self.desk = company, Desk(company.perform)
        self.tasks = TasksView(company, self.desk)
        self.views: dict[str, View] = {"tasks": self.tasks, "money": MoneyView(company, self.desk)}
        if company.may(GetAnalytics):
            self.views["analytics"] = AnalyticsView(company, self.desk)
        self.switcher = ContentSwitcher(*self.views.values(), initial="tasks")
        self.who, self.names = Static(id="who"), Static(id="views")
        self.news, self.said = Static(id="news"), Static(id="said")
        self.day: Today | None = None
        self.fault: BaseException | None = None
        self._is_at_work = self._is_troubled = self._is_loading = self._is_stale = False

    def compose(self) -> ComposeResult:
        """A head of two lines, the views of which one is seen, what happened, what was said, and the keys."""
        yield from (self.who, self.names, self.switcher, self.news, self.said, Footer())

    def on_mount(self) -> None:
        """Begin with the tasks, and look from then on; a signal ends it like a key."""
        for number in (signal.SIGINT, signal.SIGTERM):
            get_running_loop().add_signal_handler(number, self.leave)
        self.news.display = self.said.display = False
        self._head()
        self.view.query("Sheet, VerticalScroll").first().focus()
        self._begin(self._pulse)

    def on_unmount(self) -> None:
        """Ask for nothing more."""
        self.desk.close()

    def on_resize(self) -> None:
        """Fit the head to the new width."""
        self._head()

    @property
    def shown(self) -> str:
        """The name of the view that is seen."""
        return self.switcher.current or "tasks"

    @property
    def view(self) -> View:
        """The view that is seen."""
        return self.views[self.shown]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What somebody may not do has no key; while a question is open, it is all there is."""
        if action == "shuffle":
            return self.company.may(ShuffleTasks)
        if action == "show":
            return parameters[0] in self.views and len(self.screen_stack) == 1
        return len(self.screen_stack) == 1 if action == "turn" else True

    def action_show(self, name: str) -> None:
        """Show another view."""
        self.switcher.current = name
        self._head()
        self.view.query("Sheet, VerticalScroll").first().focus()
        self.action_look()

    def action_turn(self, views: int) -> None:
        """Show the view that many places further."""
        names = [*self.views]
        self.action_show(names[(names.index(self.shown) + views) % len(names)])

    def action_look(self) -> None:
        """Ask anew for what the view shows, once what it is being asked for is there."""
        self._is_stale = True
        if not self._is_loading:
            self._begin(self._load)

    def action_leave(self) -> None:
        """End it."""
        self.leave()

    def leave(self) -> None:
        """End it: nobody waits any more for what was asked."""
        self.workers.cancel_all()
        self.exit()

    def action_complete(self) -> None:
        """Complete the task that the cursor is on."""
        task = self.tasks.chosen
        if task is None:
            self.say("There is no task to complete here.")
        elif not self._is_at_work:
            self._begin(partial(self._complete, task.number))

    def action_detail(self) -> None:
        """Tell everything about the task that the cursor is on, its title in full."""
        if (task := self.tasks.chosen) is not None:
            self.say(self.tasks.detail(task))

    def on_data_table_row_selected(self) -> None:
        """The Enter key tells about a task."""
        if self.shown == "tasks":
            self.action_detail()

    def action_shuffle(self) -> None:
        """Ask whether it is meant, then draw a new assignee for every open task."""
        if not self._is_at_work:
            self._begin(self._shuffle)

    def say(self, sentence: str, *, is_error: bool = False) -> None:
        """Show a sentence until there is another."""
        self.said.set_class(is_error, "error")
        self.said.display = bool(sentence)
        self.said.update(wrapped(sentence))

    def complain(self, error: PopugError) -> None:
        """Show why something was not done, and what to do."""
        self.say(f"! {error.message} {error.hint}".rstrip(), is_error=True)

    def _fatal_error(self) -> None:
        """Leave on a fault of the program's own, without the traceback that Textual would print."""
        error = self._exception
        self.fault = error.error if isinstance(error, WorkerFailed) else error
        self._close_messages_no_wait()

    def _begin(self, work: Work) -> None:
        """Have something done while the screen goes on."""
        _: Worker[None] = self.run_worker(work)

    async def _complete(self, number: int) -> None:
        if (done := await self._attempt(CompleteTask(number=number))) is not None:
            self.say(f"#{done.number} {done.title} is completed; it brought {format_cents(done.reward_cents or 0)}.")

    async def _shuffle(self) -> None:
        page = await self._attempt(ListTasks(status=StatusFilter.OPEN, limit=1))
        if page is None:
            return
        count = f"{page.total:,} open task" + ("" if page.total == 1 else "s")
        question = f"Draw a new assignee for {count}? Whoever gets one pays its fee; this cannot be undone."
        if not await self.push_screen_wait(Confirm(question, only_ascii=self.company.only_ascii)):
            self.say("Nothing was shuffled.")
        elif (done := await self._attempt(ShuffleTasks(), f"Shuffling {count} …")) is not None:
            self.say(f"{done.task_count:,} shuffled among {done.candidates_count:,} people.")

    async def _attempt(self, message: Message[Answer], meanwhile: str = "") -> Answer | None:
        """The answer to a message that a key sends; None where it was refused, which is shown."""
        self._is_at_work = True
        self.say(meanwhile)
        try:
            return await self.desk.ask(message)
        except PopugError as error:
            self.complain(error)
            return None
        finally:
            self._is_at_work = False
            self.action_look()

    async def _pulse(self) -> None:
        while True:
            await self._look_around()
            await sleep(self.company.pulse_seconds)

    async def _look_around(self) -> None:
        """See whether anything has happened since; then the view is asked for anew."""
        before = self.day
        try:
            self.day = day = await self.desk.ask(ShowToday(after=before.last_sequence if before else None))
        except PopugError as error:
            self._is_troubled = True
            self.complain(error)
            return
        if self._is_troubled:
            self._is_troubled = False
            self.say("")
        self._tell(day.happened if before else [], self.company.warnings())
        self._head()
        if before is None or (before.last_sequence, before.business_date) != (day.last_sequence, day.business_date):
            self.action_look()

    async def _load(self) -> None:
        self._is_loading = True
        try:
            while self._is_stale and self.day is not None:
                self._is_stale = False
                await self.view.load(self.day)
        except PopugError as error:
            self.complain(error)
        finally:
            self._is_loading = False

    def _tell(self, happened: list[Happening], warnings: list[str]) -> None:
        """Show the last of what happened to who looks, unless they did it here."""
        told = [(each.at, self.company.told(each)) for each in happened if each.what is not News.COMPLETED]
        if told:
            more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
            instant, sentence = told[-1]
            at = f"{self.company.calendar.local(instant):%H:%M}"
            self._hear(f"{at} {sentence}{more}")
        if warnings:
            self._hear(warnings[-1])

    def _hear(self, sentence: str) -> None:
        self.news.display = True
        self.news.update(wrapped(sentence))

    def _head(self) -> None:
        """Who looks, the date and the balance; the views with the one that is seen set apart."""
        user, day, width = self.company.user, self.day, self.size.width - 2
        left, right = f"{user.username} ({user.role})", "…"
        if day is not None:
            in_red = ", in the red" if day.balance_cents < 0 else ""
            left += f"  {day.business_date:%a} {day.business_date}"
            earned = f"earned today {format_cents(day.earned_today_cents)}"
            right = f"balance {format_cents(day.balance_cents)}{in_red}, {earned}"
        self.who.update(plain(beside(left, right, width)))
        self.names.update(self._named())

    def _named(self) -> Text:
        names = Text()
        for number, name in enumerate(self.views, start=1):
            seen = name == self.shown
            names.append(f"[{number} {name}]" if seen else f" {number} {name} ", style="bold reverse" if seen else "")
            names.append("  ")
        return names


def run(company: Company) -> None:
    """Show a company until one has seen enough; raises what the application itself failed of."""
    dashboard = Dashboard(company)
    with suppress(KeyboardInterrupt):
        dashboard.run()
    if dashboard.fault is not None:
        raise dashboard.fault

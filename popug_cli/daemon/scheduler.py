"""The scheduler: it triggers runs; each run reads from the database what is due."""

import gc
import logging
import os
import signal
import sys
import threading
import time as timer
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol

from popug_cli.app import LocalBackend
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.progress import Progress
from popug_cli.messages.principal import SCHEDULER
from popug_cli.messages.scheduler import RunDue, Schedule, ScheduledRunResult, ShowSchedule

if TYPE_CHECKING:
    from apscheduler.schedulers.background import BackgroundScheduler
    from apscheduler.triggers.interval import IntervalTrigger

POLL_SECONDS = 30
SIGNAL_POLL_SECONDS = (
    0.5  # short, because a signal that the kernel delivers to another thread does not wake the waiting main thread
)
CLOCK_CHANGE_SECONDS = 3
GRACE_SECONDS = 1.5
SIGNALS = (signal.SIGINT, signal.SIGTERM)

OpenForScheduler = Callable[[Progress], LocalBackend]


class SchedulerReporter(Protocol):
    """Receives what the scheduler does, to report it as text or JSON."""

    def comes_next(self, schedule: Schedule) -> None:
        """Report what will be done, and when."""
        ...

    def ran(self, run: ScheduledRunResult) -> None:
        """Report a finished run."""
        ...

    def failed(self, error: PopugError) -> None:
        """Report that a run failed; the next one retries."""
        ...


class SchedulerStopped(BaseException):
    """The scheduler is asked to stop; the current run is abandoned between two steps."""


@dataclass
class ScheduledRun:
    """Executes runs, never two at once. Setting `stopping` ends the current run at its next step."""

    open_backend: OpenForScheduler
    message: RunDue
    reporter: SchedulerReporter
    stopping: threading.Event = field(default_factory=threading.Event)
    busy: threading.Lock = field(default_factory=threading.Lock)
    orders: "SimpleQueue[int | BaseException]" = field(default_factory=SimpleQueue)
    _last_error: str = ""
    _needed_yes: bool = False

    def schedule(self) -> Schedule:
        """Return what will be done next."""
        backend = self.open_backend(self._check_stopping)
        try:
            query = ShowSchedule(at_minute=self.message.at_minute, confirmed=self.message.confirmed)
            return backend.perform(query, actor=SCHEDULER)
        finally:
            backend.close()

    def do(self) -> ScheduledRunResult:
        """Do what is due. Open the company for each run, so that the current settings and file are used."""
        backend = self.open_backend(self._check_stopping)
        try:
            return backend.perform(self.message, actor=SCHEDULER)
        finally:
            backend.close()

    def run(self, *, always_report: bool) -> None:
        """Do what is due. Report it if `always_report`, or if something was done or changed."""
        with self.busy:
            try:
                self._report(self.do(), always_report=always_report)
            except PopugError as error:
                if always_report or error.message != self._last_error:
                    self._last_error = error.message
                    self.reporter.failed(error)
            except SchedulerStopped:
                return

    def _report(self, run: ScheduledRunResult, *, always_report: bool) -> None:
        has_news = self._last_error or run.next.needs_yes != self._needed_yes
        if always_report or has_news or run.days or run.mail.sent or run.mail.failed or run.backup:
            self.reporter.ran(run)
        self._last_error, self._needed_yes = "", run.next.needs_yes

    def _check_stopping(self, label: str, done: int, total: int) -> None:
        if self.stopping.is_set() or not self.orders.empty():
            raise SchedulerStopped


def run_once(open_backend: OpenForScheduler, message: RunDue, reporter: SchedulerReporter) -> ScheduledRunResult:
    """Do what is due once, report it and return the result."""
    run = ScheduledRun(open_backend, message, reporter).do()
    reporter.ran(run)
    return run


def run_forever(
    open_backend: OpenForScheduler,
    message: RunDue,
    reporter: SchedulerReporter,
    background: AbstractContextManager[None] | None = None,
) -> None:
    """Do what is due, daily and by polling, until SIGINT or SIGTERM. Keep `background` entered during that time."""
    gc.enable()
    work = ScheduledRun(open_backend, message, reporter)
    previous_handlers = {
        number: signal.signal(number, lambda number, frame: work.orders.put(number)) for number in SIGNALS
    }
    try:
        schedule = work.schedule()
        reporter.comes_next(schedule)
        _run_scheduler(work, schedule.time_zone, background or nullcontext())
    except SchedulerStopped:
        return
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


def _run_scheduler(work: ScheduledRun, time_zone: str, background: AbstractContextManager[None]) -> None:
    scheduler = _build_scheduler(work, time_zone, work.orders)
    scheduler.start()
    try:
        with background:
            _watch(scheduler, work, work.orders)
    finally:
        work.stopping.set()
        _shut_down(scheduler)
        _wait_or_exit(work)


@contextmanager
def run_in_background(open_backend: OpenForScheduler, message: RunDue, reporter: SchedulerReporter) -> Iterator[None]:
    """Do what is due in threads during the block, whose code handles the signals."""
    signals: SimpleQueue[int | BaseException] = SimpleQueue()
    work = ScheduledRun(open_backend, message, reporter)
    schedule = work.schedule()
    reporter.comes_next(schedule)
    scheduler = _build_scheduler(work, schedule.time_zone, signals)
    scheduler.start()
    watch = threading.Thread(target=_watch, args=(scheduler, work, signals), name="popug-watch", daemon=True)
    watch.start()
    try:
        yield
    finally:
        signals.put(0)
        work.stopping.set()
        _shut_down(scheduler)
        watch.join(GRACE_SECONDS)
        work.busy.acquire(timeout=GRACE_SECONDS)


def _build_scheduler(
    work: ScheduledRun, time_zone: str, signals: "SimpleQueue[int | BaseException]"
) -> "BackgroundScheduler":
    """Schedule a run now, daily at the hour, and every ``POLL_SECONDS``; one thread executes all.

    Polling is needed because clocks jump and machines sleep.
    """
    from apscheduler.events import EVENT_JOB_ERROR
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.jobstores.memory import MemoryJobStore
    from apscheduler.schedulers.background import BackgroundScheduler
    from apscheduler.triggers.cron import CronTrigger

    logging.getLogger("apscheduler").addHandler(logging.NullHandler())
    scheduler = BackgroundScheduler(
        jobstores={"default": MemoryJobStore()},
        executors={"default": ThreadPoolExecutor(max_workers=1)},
        job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1},
        timezone=time_zone,
    )
    hour, minute = divmod(work.message.at_minute, 60)
    daily_trigger = CronTrigger(hour=hour, minute=minute, timezone=time_zone)
    scheduler.add_job(work.run, kwargs={"always_report": True}, id="now")
    scheduler.add_job(work.run, daily_trigger, kwargs={"always_report": True}, id="hour")
    scheduler.add_job(work.run, _poll_trigger(), kwargs={"always_report": False}, id="look")
    scheduler.add_listener(lambda event: signals.put(event.exception), EVENT_JOB_ERROR)
    return scheduler


def _shut_down(scheduler: "BackgroundScheduler") -> None:
    """Stop the scheduler. Remove its jobs first: its thread logs an error for a job that ends during the shutdown."""
    scheduler.remove_all_jobs()
    scheduler.shutdown(wait=False)


def _watch(scheduler: "BackgroundScheduler", work: ScheduledRun, signals: "SimpleQueue[int | BaseException]") -> None:
    """Wait for a signal to stop; raise the error of a failed job. Reschedule all jobs after the clock was changed."""
    offset = _wall_clock_offset()
    while True:
        try:
            received = signals.get(timeout=SIGNAL_POLL_SECONDS)
        except Empty:
            if abs(_wall_clock_offset() - offset) > CLOCK_CHANGE_SECONDS:
                offset = _wall_clock_offset()
                _reschedule_after_clock_change(scheduler, work)
            continue
        if isinstance(received, BaseException):
            raise received
        return


def _wall_clock_offset() -> float:
    """Return how many seconds the wall clock is ahead of the monotonic clock."""
    return datetime.now(UTC).timestamp() - timer.monotonic()


def _reschedule_after_clock_change(scheduler: "BackgroundScheduler", work: ScheduledRun) -> None:
    """Reschedule all jobs by the changed clock, and run once now with a report."""
    hour = scheduler.get_job("hour")
    hour.reschedule(hour.trigger)
    scheduler.reschedule_job("look", trigger=_poll_trigger())
    scheduler.add_job(work.run, kwargs={"always_report": True}, id="now", replace_existing=True)


def _poll_trigger() -> "IntervalTrigger":
    """Return a trigger that starts now. An older one would pause until a clock that was set back passes its start."""
    from apscheduler.triggers.interval import IntervalTrigger

    return IntervalTrigger(seconds=POLL_SECONDS, timezone=UTC)


def _wait_or_exit(work: ScheduledRun) -> None:
    """Wait for the current run to end. If it hangs, exit at once; its open transaction is rolled back."""
    if not work.busy.acquire(timeout=GRACE_SECONDS):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    work.busy.release()

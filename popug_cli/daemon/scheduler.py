"""The scheduler: it triggers runs, and each run reads from the database which work is due."""

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from popug_cli.app import LocalBackend
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.log import LOG, log_error
from popug_cli.kernel.progress import Progress
from popug_cli.messages.principal import SCHEDULER
from popug_cli.messages.scheduler import RunDue, Schedule, ScheduledRunResult, ShowSchedule

if TYPE_CHECKING:
    from apscheduler.schedulers.background import BackgroundScheduler
    from apscheduler.triggers.interval import IntervalTrigger

POLL_SECONDS = 30
MOVED = "moved"  # the code of the error for a home whose company is a cluster now
SIGNAL_POLL_SECONDS = (
    0.5  # short, because a signal that the kernel delivers to another thread does not wake the waiting main thread
)
MIN_CLOCK_CHANGE_SECONDS = 3
GRACE_SECONDS = 1.5
SIGNALS = (signal.SIGINT, signal.SIGTERM)

OpenForScheduler = Callable[[Progress], LocalBackend]
Show = Callable[[Schedule | ScheduledRunResult], None]


class SchedulerStopped(BaseException):
    """Ends the current run, between two of its steps, because the scheduler is asked to stop."""


@dataclass
class ScheduledRun:
    """Performs runs, never two at once. `show` prints the results, and errors are logged; the next run retries.

    Setting `stopping` ends the current run at its next step, and so does a signal in `signals`, which also receives the
    error of a failed job.
    """

    open_backend: OpenForScheduler
    message: RunDue
    show: Show
    stopping: threading.Event = field(default_factory=threading.Event)
    run_lock: threading.Lock = field(default_factory=threading.Lock)
    signals: "SimpleQueue[int | BaseException]" = field(default_factory=SimpleQueue)
    _last_error: str = ""
    _needs_confirmation: bool = False

    def schedule(self) -> Schedule:
        """Return the schedule: which runs come next."""
        backend = self.open_backend(self._check_stopping)
        try:
            query = ShowSchedule(at_minute=self.message.at_minute, confirmed=self.message.confirmed)
            return backend.perform(query, actor=SCHEDULER)
        finally:
            backend.close()

    def perform_due(self) -> ScheduledRunResult:
        """Perform the message once. Open the company for each run, so that the current settings and file are used."""
        backend = self.open_backend(self._check_stopping)
        try:
            return backend.perform(self.message, actor=SCHEDULER)
        finally:
            backend.close()

    def run(self, *, always_report: bool) -> None:
        """Run what is due, and show the result if `always_report`, or if something was done or has changed.

        A failure is logged if `always_report`, or if it is not the same as in the last run. Raise ``moved`` for a home
        whose company is a cluster now: its scheduler ends.
        """
        with self.run_lock:
            try:
                self._report(self.perform_due(), always_report=always_report)
            except PopugError as error:
                if error.code == MOVED:
                    raise
                if always_report or error.message != self._last_error:
                    self._last_error = error.message
                    log_error(error)
            except SchedulerStopped:
                return

    def _report(self, run: ScheduledRunResult, *, always_report: bool) -> None:
        has_changed = self._last_error or run.next.needs_yes != self._needs_confirmation
        if always_report or has_changed or run.days or run.mail.sent or run.mail.failed or run.backup:
            try:
                self.show(run)
            except OSError as error:  # a full disk or a closed pipe; the days are closed all the same
                LOG.warning("A report of the scheduler could not be printed: %s.", error.strerror)
        self._last_error, self._needs_confirmation = "", run.next.needs_yes

    def _check_stopping(self, label: str, done: int, total: int) -> None:
        if self.stopping.is_set() or not self.signals.empty():
            raise SchedulerStopped


def run_once(open_backend: OpenForScheduler, message: RunDue, show: Show) -> ScheduledRunResult:
    """Run what is due once, show the result and return it; raise its error."""
    run = ScheduledRun(open_backend, message, show).perform_due()
    show(run)
    return run


def run_forever(
    open_backend: OpenForScheduler,
    message: RunDue,
    show: Show,
    background: AbstractContextManager[None] | None = None,
) -> None:
    """Run what is due now, daily and by polling, until SIGINT or SIGTERM. `background` is entered during that time."""
    gc.enable()
    scheduled_run = ScheduledRun(open_backend, message, show)
    previous_handlers = {
        number: signal.signal(number, lambda number, frame: scheduled_run.signals.put(number)) for number in SIGNALS
    }
    try:
        schedule = scheduled_run.schedule()
        show(schedule)
        _run_scheduler(scheduled_run, schedule.time_zone, background or nullcontext())
    except SchedulerStopped:
        return
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


def _run_scheduler(scheduled_run: ScheduledRun, time_zone: str, background: AbstractContextManager[None]) -> None:
    scheduler = _build_scheduler(scheduled_run, time_zone, scheduled_run.signals)
    scheduler.start()
    try:
        with background:
            _wait_for_signal(scheduler, scheduled_run, scheduled_run.signals)
    finally:
        scheduled_run.stopping.set()
        _shut_down(scheduler)
        _wait_or_exit(scheduled_run)


@contextmanager
def run_in_background(open_backend: OpenForScheduler, message: RunDue, show: Show) -> Iterator[None]:
    """Run what is due in a thread during the block. The caller handles the signals."""
    signals: SimpleQueue[int | BaseException] = SimpleQueue()
    scheduled_run = ScheduledRun(open_backend, message, show)
    schedule = scheduled_run.schedule()
    show(schedule)
    scheduler = _build_scheduler(scheduled_run, schedule.time_zone, signals)
    scheduler.start()
    watch_thread = threading.Thread(
        target=_wait_for_signal, args=(scheduler, scheduled_run, signals), name="popug-watch", daemon=True
    )
    watch_thread.start()
    try:
        yield
    finally:
        signals.put(0)  # ends the watch thread
        scheduled_run.stopping.set()
        _shut_down(scheduler)
        watch_thread.join(GRACE_SECONDS)
        scheduled_run.run_lock.acquire(timeout=GRACE_SECONDS)


def _build_scheduler(
    scheduled_run: ScheduledRun, time_zone: str, signals: "SimpleQueue[int | BaseException]"
) -> "BackgroundScheduler":
    """Schedule a run now, daily at ``at_minute``, and every ``POLL_SECONDS``; one thread executes all runs.

    Polling is needed because clocks jump and machines sleep.
    """
    from apscheduler.events import EVENT_JOB_ERROR
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.jobstores.memory import MemoryJobStore
    from apscheduler.schedulers.background import BackgroundScheduler
    from apscheduler.triggers.cron import CronTrigger

    scheduler = BackgroundScheduler(
        jobstores={"default": MemoryJobStore()},
        executors={"default": ThreadPoolExecutor(max_workers=1)},
        job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1},
        timezone=time_zone,
    )
    hour, minute = divmod(scheduled_run.message.at_minute, 60)
    daily_trigger = CronTrigger(hour=hour, minute=minute, timezone=time_zone)
    scheduler.add_job(scheduled_run.run, kwargs={"always_report": True}, id="now")
    scheduler.add_job(scheduled_run.run, daily_trigger, kwargs={"always_report": True}, id="daily")
    scheduler.add_job(scheduled_run.run, _poll_trigger(), kwargs={"always_report": False}, id="poll")
    scheduler.add_listener(lambda event: signals.put(event.exception), EVENT_JOB_ERROR)
    return scheduler


def _shut_down(scheduler: "BackgroundScheduler") -> None:
    """Stop the scheduler. Remove its jobs first: its thread logs an error for a job that ends during the shutdown."""
    scheduler.remove_all_jobs()
    scheduler.shutdown(wait=False)


def _wait_for_signal(
    scheduler: "BackgroundScheduler", scheduled_run: ScheduledRun, signals: "SimpleQueue[int | BaseException]"
) -> None:
    """Wait for a signal; raise the error of a failed job. Reschedule all jobs after a change of the clock."""
    offset = _wall_clock_offset()
    while True:
        try:
            received = signals.get(timeout=SIGNAL_POLL_SECONDS)
        except Empty:
            if abs(_wall_clock_offset() - offset) > MIN_CLOCK_CHANGE_SECONDS:
                offset = _wall_clock_offset()
                _reschedule_after_clock_change(scheduler, scheduled_run)
            continue
        if isinstance(received, BaseException):
            raise received
        return


def _wall_clock_offset() -> float:
    """Return how many seconds the wall clock is ahead of the monotonic clock."""
    return datetime.now(UTC).timestamp() - time.monotonic()


def _reschedule_after_clock_change(scheduler: "BackgroundScheduler", scheduled_run: ScheduledRun) -> None:
    """Reschedule all jobs by the changed clock, and run once now with a report."""
    daily_job = scheduler.get_job("daily")
    daily_job.reschedule(daily_job.trigger)
    scheduler.reschedule_job("poll", trigger=_poll_trigger())
    scheduler.add_job(scheduled_run.run, kwargs={"always_report": True}, id="now", replace_existing=True)


def _poll_trigger() -> "IntervalTrigger":
    """Return a trigger that starts now. After the clock was set back, an older one would pause until its start time."""
    from apscheduler.triggers.interval import IntervalTrigger

    return IntervalTrigger(seconds=POLL_SECONDS, timezone=UTC)


def _wait_or_exit(scheduled_run: ScheduledRun) -> None:
    """Wait for the current run to end. If it hangs, exit at once; its open transaction is rolled back."""
    if not scheduled_run.run_lock.acquire(timeout=GRACE_SECONDS):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    scheduled_run.run_lock.release()

"""The scheduler: it says when to look, and the database says what is due."""

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

from popug_cli.app import Local
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.progress import Progress
from popug_cli.messages.principal import SCHEDULER
from popug_cli.messages.scheduler import DueRun, RunDue, Schedule, ShowSchedule

if TYPE_CHECKING:
    from apscheduler.schedulers.background import BackgroundScheduler
    from apscheduler.triggers.interval import IntervalTrigger

LOOK_SECONDS = 30
WATCH_SECONDS = 0.5  # and not longer: a signal that the system gives to another thread does not wake the one that waits
CLOCK_STEP_SECONDS = 3
GRACE_SECONDS = 1.5
SIGNALS = (signal.SIGINT, signal.SIGTERM)

Open = Callable[[Progress], Local]


class Tell(Protocol):
    """Hears of what the scheduler does, in words or JSON."""

    def comes_next(self, schedule: Schedule) -> None:
        """What will be done, and when."""
        ...

    def ran(self, run: DueRun) -> None:
        """One run is done."""
        ...

    def failed(self, error: PopugError) -> None:
        """A run could not be done; the next one tries again."""
        ...


class Stopped(BaseException):
    """The scheduler is to end: what is being done is given up between two of its steps."""


@dataclass
class Work:
    """One run after another, never two at once; ``stopping`` ends the present one at its next step."""

    open_place: Open
    message: RunDue
    tell: Tell
    stopping: threading.Event = field(default_factory=threading.Event)
    busy: threading.Lock = field(default_factory=threading.Lock)
    orders: "SimpleQueue[int | BaseException]" = field(default_factory=SimpleQueue)
    _trouble: str = ""
    _held_days: bool = False

    def schedule(self) -> Schedule:
        """What comes next."""
        place = self.open_place(self._step)
        try:
            asked = ShowSchedule(at_minute=self.message.at_minute, confirmed=self.message.confirmed)
            return place.perform(asked, actor=SCHEDULER)
        finally:
            place.close()

    def do(self) -> DueRun:
        """What is due, in a company opened for it, so that settings and file are those of now."""
        place = self.open_place(self._step)
        try:
            return place.perform(self.message, actor=SCHEDULER)
        finally:
            place.close()

    def run(self, *, aloud: bool) -> None:
        """Do what is due and tell of it: ``aloud`` in any case, else where something was done or is new."""
        with self.busy:
            try:
                self._tell(self.do(), aloud=aloud)
            except PopugError as error:
                if aloud or error.message != self._trouble:
                    self._trouble = error.message
                    self.tell.failed(error)
            except Stopped:
                return

    def _tell(self, run: DueRun, *, aloud: bool) -> None:
        news = self._trouble or run.next.needs_yes != self._held_days
        if aloud or news or run.days or run.mail.sent or run.mail.failed or run.backup:
            self.tell.ran(run)
        self._trouble, self._held_days = "", run.next.needs_yes

    def _step(self, label: str, done: int, total: int) -> None:
        if self.stopping.is_set() or not self.orders.empty():
            raise Stopped


def run_once(open_place: Open, message: RunDue, tell: Tell) -> DueRun:
    """Do what is due and end."""
    run = Work(open_place, message, tell).do()
    tell.ran(run)
    return run


def run_forever(
    open_place: Open, message: RunDue, tell: Tell, beside: AbstractContextManager[None] | None = None
) -> None:
    """Do what is due, at its hour and whenever it turns up, until SIGINT or SIGTERM; ``beside`` runs as long."""
    gc.enable()
    work = Work(open_place, message, tell)
    before = {number: signal.signal(number, lambda number, frame: work.orders.put(number)) for number in SIGNALS}
    try:
        schedule = work.schedule()
        tell.comes_next(schedule)
        _run_scheduler(work, schedule.time_zone, beside or nullcontext())
    except Stopped:
        return
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_scheduler(work: Work, time_zone: str, beside: AbstractContextManager[None]) -> None:
    scheduler = _timetable(work, time_zone, work.orders)
    scheduler.start()
    try:
        with beside:
            _watch(scheduler, work, work.orders)
    finally:
        work.stopping.set()
        _shut_down(scheduler)
        _leave(work)


@contextmanager
def running_beside(open_place: Open, message: RunDue, tell: Tell) -> Iterator[None]:
    """Do what is due as long as something else runs in this process, which hears the signals."""
    orders: SimpleQueue[int | BaseException] = SimpleQueue()
    work = Work(open_place, message, tell)
    schedule = work.schedule()
    tell.comes_next(schedule)
    scheduler = _timetable(work, schedule.time_zone, orders)
    scheduler.start()
    watch = threading.Thread(target=_watch, args=(scheduler, work, orders), name="popug-watch", daemon=True)
    watch.start()
    try:
        yield
    finally:
        orders.put(0)
        work.stopping.set()
        _shut_down(scheduler)
        watch.join(GRACE_SECONDS)
        work.busy.acquire(timeout=GRACE_SECONDS)


def _timetable(work: Work, time_zone: str, orders: "SimpleQueue[int | BaseException]") -> "BackgroundScheduler":
    """Look at once, at the hour, and now and then, for clocks jump and machines sleep; one thread does it all."""
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
    at_its_hour = CronTrigger(hour=hour, minute=minute, timezone=time_zone)
    scheduler.add_job(work.run, kwargs={"aloud": True}, id="now")
    scheduler.add_job(work.run, at_its_hour, kwargs={"aloud": True}, id="hour")
    scheduler.add_job(work.run, _now_and_then(), kwargs={"aloud": False}, id="look")
    scheduler.add_listener(lambda event: orders.put(event.exception), EVENT_JOB_ERROR)
    return scheduler


def _shut_down(scheduler: "BackgroundScheduler") -> None:
    """Stop the timetable. Without its jobs first: its thread complains of one that is done while it is stopped."""
    scheduler.remove_all_jobs()
    scheduler.shutdown(wait=False)


def _watch(scheduler: "BackgroundScheduler", work: Work, orders: "SimpleQueue[int | BaseException]") -> None:
    """Wait for the order to end; raises what a run failed of. A moved clock makes the timetable anew."""
    ahead = _clock_ahead()
    while True:
        try:
            order = orders.get(timeout=WATCH_SECONDS)
        except Empty:
            if abs(_clock_ahead() - ahead) > CLOCK_STEP_SECONDS:
                ahead = _clock_ahead()
                _set_anew(scheduler, work)
            continue
        if isinstance(order, BaseException):
            raise order
        return


def _clock_ahead() -> float:
    """How far the wall clock is ahead of the one that nobody sets, in seconds."""
    return datetime.now(UTC).timestamp() - timer.monotonic()


def _set_anew(scheduler: "BackgroundScheduler", work: Work) -> None:
    """Let every job be due by the clock as it is now, look at once and tell of it."""
    hour = scheduler.get_job("hour")
    hour.reschedule(hour.trigger)
    scheduler.reschedule_job("look", trigger=_now_and_then())
    scheduler.add_job(work.run, kwargs={"aloud": True}, id="now", replace_existing=True)


def _now_and_then() -> "IntervalTrigger":
    """One that begins now: an old one would wait until a clock that was set back has caught up with its beginning."""
    from apscheduler.triggers.interval import IntervalTrigger

    return IntervalTrigger(seconds=LOOK_SECONDS, timezone=UTC)


def _leave(work: Work) -> None:
    """Wait for the present run to end; one that hangs is left as a crash would leave it, which undoes it."""
    if not work.busy.acquire(timeout=GRACE_SECONDS):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    work.busy.release()

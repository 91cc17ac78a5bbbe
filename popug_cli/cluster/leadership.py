"""Leadership: of the processes of one service, one at a time runs its relay and its replicators.

Nothing depends on there being only one: two relays send equal records, and of two replicators one finds the offset
moved. A second leader would only do all work twice.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Event, Thread
from typing import Protocol

from popug_cli.bus.context import Newest
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.log import LOG, log_error
from popug_cli.storage.leader_lock import LeaderLock

TRY_SECONDS = 0.2  # a killed leader is replaced after at most this time
HOLD_SECONDS = 0.5
RETRY_SECONDS = 1.0


class LeaderWork(Protocol):
    """The work that the leader does in other threads."""

    def wake(self) -> None:
        """Send the new events of the log at once."""
        ...

    def check(self) -> None:
        """Raise an error if the work has ended."""
        ...


Lead = Callable[[], AbstractContextManager[LeaderWork]]
"""Returns a context manager that does the leader's work during its block."""

Prepare = Callable[[], Lead]
"""Checks all that the leader's work needs, such as its topics, before this process tries to lead; raises otherwise."""


class Leadership:
    """A thread that tries to acquire the leader's lock, and does the leader's work while this process holds it.

    A process that cannot lead, because a broker refuses it for example, does not take the lock from one that can. In a
    process that is not the leader, growth of the log (``newest.on_growth``) notifies the leader.
    """

    def __init__(self, service: str, lock: LeaderLock, newest: Newest, prepare: Prepare) -> None:
        self._service = service
        self._lock = lock
        self._newest = newest
        self._prepare = prepare
        self._stopping, self._grown = Event(), Event()
        self._last_error = ""
        self.is_leader = False
        self._thread = Thread(target=self._run, name=f"{service} leadership", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the leader's work, release the lock and wait for the thread."""
        self._stopping.set()
        self._grown.set()
        self._thread.join()

    def _run(self) -> None:
        lead: Lead | None = None
        while not self._stopping.is_set():
            try:
                lead = lead or self._prepare()
                if self._lock.try_acquire():
                    ready, lead = lead, None
                    self._be_leader(ready)
                else:
                    self._follow()
                self._last_error = ""
            except PopugError as error:
                if error.message != self._last_error:
                    log_error(error)
                self._last_error = error.message
                self._lock.release()
                self._stopping.wait(RETRY_SECONDS)
        self._lock.release()

    def _be_leader(self, lead: Lead) -> None:
        try:
            with lead() as work:
                self._newest.on_growth = work.wake
                self.is_leader = True
                self._last_error = ""
                LOG.info("This process is the leader of %s.", self._service)
                while not self._stopping.is_set():
                    if self._lock.hold(HOLD_SECONDS):
                        work.wake()
                    work.check()
        finally:
            if self.is_leader:
                LOG.info("This process is not the leader of %s any more.", self._service)
            self.is_leader = False

    def _follow(self) -> None:
        """Wait before the next try; report growth of the log to the leader at once."""
        self._newest.on_growth = self._grown.set
        if self._grown.wait(TRY_SECONDS):
            self._grown.clear()
            self._lock.notify()

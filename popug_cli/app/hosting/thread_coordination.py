"""Threads that share one company: commands run in parallel; one thread at a time runs the consumers for all."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Condition, Lock

from popug_cli.bus.consumers import CatchUpResult


class ThreadCoordinator:
    """The order of many threads.

    Commands are let in together and wait for the write lock in a queue. Who is done with its command and wants the
    consumers to catch up lets nobody else in, waits for those inside, and catches up for all of them at once.
    ``caught_up_to`` is the position of the log up to which all is known to be done.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._write_lock = Lock()
        self._running_commands = 0
        self._catching_up = False
        self._finished_writes = 0
        self._caught_up_writes = 0
        self._result = CatchUpResult()
        self.caught_up_to = -1

    @contextmanager
    def write_lock(self) -> Iterator[None]:
        """Held around each write transaction, so that threads queue here and not at SQLite, which polls."""
        with self._write_lock:
            yield
        with self._changed:
            self._finished_writes += 1

    @contextmanager
    def command(self) -> Iterator[None]:
        """Held around what a command changes."""
        with self._changed:
            self._changed.wait_for(lambda: not self._catching_up)
            self._running_commands += 1
        try:
            yield
        finally:
            with self._changed:
                self._running_commands -= 1
                self._changed.notify_all()

    def catch_up(self, work: Callable[[], CatchUpResult], *, force: bool) -> CatchUpResult:
        """Catch up with all that was written before this call, unless another thread does so meanwhile."""
        with self._changed:
            finished_writes = self._finished_writes
            is_new = finished_writes > self._caught_up_writes
            self._changed.wait_for(
                lambda: not self._catching_up or (is_new and self._caught_up_writes >= finished_writes)
            )
            if is_new and self._caught_up_writes >= finished_writes and not force:
                return self._result
            self._changed.wait_for(lambda: not self._catching_up)
            self._catching_up = True
            self._changed.wait_for(lambda: not self._running_commands)
            reached = self._finished_writes
        try:
            result = work()
            with self._changed:
                self._caught_up_writes, self._result = max(reached, self._caught_up_writes), result
        finally:
            with self._changed:
                self._catching_up = False
                self._changed.notify_all()
        return result

    def is_caught_up(self, position: int) -> bool:
        """Whether nothing is left to do up to there, or somebody is at it."""
        return self.is_busy or position == self.caught_up_to

    @property
    def is_busy(self) -> bool:
        """Whether somebody is at work who will let the consumers catch up."""
        return self._catching_up or self._running_commands > 0


class QueryCoordinator:
    """The order of who only reads beside a crew: the consumers are left to the crew while it is at work.

    ``find_head`` finds out how far the log goes.
    """

    def __init__(self, coordinator: ThreadCoordinator, find_head: Callable[[], int]) -> None:
        self._coordinator = coordinator
        self._find_head = find_head

    def command(self) -> AbstractContextManager[None]:
        """Goes in with the crew."""
        return self._coordinator.command()

    def catch_up(self, work: Callable[[], CatchUpResult], *, force: bool) -> CatchUpResult:
        """Catch up with what an earlier process or a fault has left, unless the crew is at it."""
        head = self._find_head()
        if self.is_caught_up(head) and not force:
            return CatchUpResult()
        result = work()
        if result.complete and not result.faults:
            self._coordinator.caught_up_to = head
        return result

    def is_caught_up(self, position: int) -> bool:
        """What the crew knows."""
        return self._coordinator.is_caught_up(position)

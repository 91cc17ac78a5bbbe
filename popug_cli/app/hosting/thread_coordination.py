"""Threads that share one company: commands run in parallel; one thread at a time runs the consumers for all."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Condition, Lock

from popug_cli.bus.catch_up import CatchUpResult


class ThreadCoordinator:
    """Coordinates the threads of one company.

    Commands run concurrently and queue for the write lock. A thread that has finished its command and wants to catch up
    admits no new commands and waits until the running ones end. It then runs the consumers once for all of them.
    `caught_up_to` is a log position up to which all consumers are known to be done, or -1.
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
        """Lock for the duration of a write transaction, so that threads queue here instead of polling SQLite."""
        with self._write_lock:
            yield
        with self._changed:
            self._finished_writes += 1

    @contextmanager
    def command(self) -> Iterator[None]:
        """Count this thread as a running command while it makes its changes; wait first while consumers run."""
        with self._changed:
            self._changed.wait_for(lambda: not self._catching_up)
            self._running_commands += 1
        try:
            yield
        finally:
            with self._changed:
                self._running_commands -= 1
                self._changed.notify_all()

    def catch_up(self, run_consumers: Callable[[], CatchUpResult], *, force: bool) -> CatchUpResult:
        """Run the consumers for all writes that ended before this call, and return the result.

        If another thread does so first, return its result, unless `force`.
        """
        with self._changed:
            finished_writes = self._finished_writes
            has_new_writes = finished_writes > self._caught_up_writes
            self._changed.wait_for(
                lambda: not self._catching_up or (has_new_writes and self._caught_up_writes >= finished_writes)
            )
            if has_new_writes and self._caught_up_writes >= finished_writes and not force:
                return self._result
            self._changed.wait_for(lambda: not self._catching_up)
            self._catching_up = True
            self._changed.wait_for(lambda: not self._running_commands)
            reached = self._finished_writes
        try:
            result = run_consumers()
            with self._changed:
                self._caught_up_writes, self._result = max(reached, self._caught_up_writes), result
        finally:
            with self._changed:
                self._catching_up = False
                self._changed.notify_all()
        return result

    def is_caught_up(self, position: int) -> bool:
        """Return whether the consumers have processed the log up to `position`, or a thread will do so."""
        return self.is_busy or position == self.caught_up_to

    @property
    def is_busy(self) -> bool:
        """Return whether a thread runs the consumers, or a command after which they will run."""
        return self._catching_up or self._running_commands > 0


class QueryCoordinator:
    """Coordinates a thread that answers a query, or runs the consumers while no command does.

    While other threads perform commands, those threads run the consumers. `find_head` returns the log's last position.
    """

    def __init__(self, coordinator: ThreadCoordinator, find_head: Callable[[], int]) -> None:
        self._coordinator = coordinator
        self._find_head = find_head

    def command(self) -> AbstractContextManager[None]:
        """Count this thread as a running command of the shared coordinator."""
        return self._coordinator.command()

    def catch_up(self, run_consumers: Callable[[], CatchUpResult], *, force: bool) -> CatchUpResult:
        """Process the events that an earlier process or a failure left.

        Unless `force`, do nothing if all events are processed or the other threads process them.
        """
        head = self._find_head()
        if self.is_caught_up(head) and not force:
            return CatchUpResult()
        result = run_consumers()
        if result.complete and not result.errors:
            self._coordinator.caught_up_to = head
        return result

    def is_caught_up(self, position: int) -> bool:
        """Return what the shared coordinator knows."""
        return self._coordinator.is_caught_up(position)

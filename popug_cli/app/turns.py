"""Who may go when several threads work in one company: commands side by side, catching up alone and once for many."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Condition, Lock
from typing import Protocol

from popug_cli.bus.consumers import CatchUp


class Turns(Protocol):
    """Orders what a place does among what others do at the same time in this process."""

    def command(self) -> AbstractContextManager[None]:
        """Held around what a command changes."""
        ...

    def catch_up(self, work: Callable[[], CatchUp], *, thoroughly: bool) -> CatchUp:
        """Let the consumers work; unless thoroughly, who lets them work just now may do. How it went comes back."""
        ...

    def is_done(self, position: int) -> bool:
        """Whether the consumers are known to have taken the log up to a position, or somebody lets them just now."""
        ...


class NobodyElse:
    """The order of a process with one thread: there is none."""

    def command(self) -> AbstractContextManager[None]:
        """Goes ahead."""
        return nullcontext()

    def catch_up(self, work: Callable[[], CatchUp], *, thoroughly: bool) -> CatchUp:
        """Goes ahead."""
        return work()

    def is_done(self, position: int) -> bool:
        """Nobody knows."""
        return False


class Crew:
    """The order of many threads.

    Commands are let in together and wait for the write lock in a queue. Who is done with its command and wants the
    consumers to catch up lets nobody else in, waits for those inside, and catches up for all of them at once. ``head``
    is the position of the log up to which all is known to be done.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._write_lock = Lock()
        self._inside = 0
        self._catching_up = False
        self._written = 0
        self._covered = 0
        self._report = CatchUp()
        self.head = -1

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Held around each write transaction, so that threads queue here and not at SQLite, which polls."""
        with self._write_lock:
            yield
        with self._changed:
            self._written += 1

    @contextmanager
    def command(self) -> Iterator[None]:
        """Held around what a command changes."""
        with self._changed:
            self._changed.wait_for(lambda: not self._catching_up)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def catch_up(self, work: Callable[[], CatchUp], *, thoroughly: bool) -> CatchUp:
        """Catch up with all that was written before this call, unless another thread does so meanwhile."""
        with self._changed:
            written = self._written
            is_new = written > self._covered
            self._changed.wait_for(lambda: not self._catching_up or (is_new and self._covered >= written))
            if is_new and self._covered >= written and not thoroughly:
                return self._report
            self._changed.wait_for(lambda: not self._catching_up)
            self._catching_up = True
            self._changed.wait_for(lambda: not self._inside)
            reached = self._written
        try:
            report = work()
            with self._changed:
                self._covered, self._report = max(reached, self._covered), report
        finally:
            with self._changed:
                self._catching_up = False
                self._changed.notify_all()
        return report

    def is_done(self, position: int) -> bool:
        """Whether nothing is left to do up to there, or somebody is at it."""
        return self.is_busy or position == self.head

    @property
    def is_busy(self) -> bool:
        """Whether somebody is at work who will let the consumers catch up."""
        return self._catching_up or self._inside > 0


class Reader:
    """The order of who only reads beside a crew: the consumers are left to the crew while it is at work.

    ``find_head`` finds out how far the log goes.
    """

    def __init__(self, crew: Crew, find_head: Callable[[], int]) -> None:
        self._crew = crew
        self._find_head = find_head

    def command(self) -> AbstractContextManager[None]:
        """Goes in with the crew."""
        return self._crew.command()

    def catch_up(self, work: Callable[[], CatchUp], *, thoroughly: bool) -> CatchUp:
        """Catch up with what an earlier process or a fault has left, unless the crew is at it."""
        head = self._find_head()
        if self.is_done(head) and not thoroughly:
            return CatchUp()
        report = work()
        if report.complete and not report.faults:
            self._crew.head = head
        return report

    def is_done(self, position: int) -> bool:
        """What the crew knows."""
        return self._crew.is_done(position)

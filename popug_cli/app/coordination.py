"""Coordination of commands and consumers in one process: the interface, and the case of a single thread."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from popug_cli.bus.consumers import CatchUpResult


class Coordinator(Protocol):
    """Coordinates commands and consumers that run in several threads of this process."""

    def command(self) -> AbstractContextManager[None]:
        """Enter as a running command for the duration of its changes."""
        ...

    def catch_up(self, work: Callable[[], CatchUpResult], *, force: bool) -> CatchUpResult:
        """Run the consumers with `work` and return the result.

        Unless `force`, a run already in progress in another thread may be used instead.
        """
        ...

    def is_caught_up(self, position: int) -> bool:
        """Return whether the consumers have processed the log up to `position`, or a thread will do so."""
        ...


class SingleThreaded:
    """Coordinator for a process with one thread: every operation runs at once."""

    def command(self) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return nullcontext()

    def catch_up(self, work: Callable[[], CatchUpResult], *, force: bool) -> CatchUpResult:
        """Run the consumers and return the result."""
        return work()

    def is_caught_up(self, position: int) -> bool:
        """Return False, because it is not known."""
        return False

"""Coordination of commands and consumers in one process: the interface, and the case of a single thread."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from popug_cli.bus.catch_up import CatchUpResult


class Coordinator(Protocol):
    """Coordinates commands and consumers that run in several threads of this process."""

    def command(self) -> AbstractContextManager[None]:
        """Return a context that counts this thread as a running command while it makes its changes."""
        ...

    def catch_up(self, run_consumers: Callable[[], CatchUpResult], *, force: bool) -> CatchUpResult:
        """Call `run_consumers` and return its result.

        Unless `force`, the consumers may be left to another thread; the result is then that thread's, or empty.
        """
        ...

    def is_caught_up(self, position: int) -> bool:
        """Return whether the consumers have processed the log up to `position`, or a thread will do so."""
        ...


class SingleThreaded:
    """Coordinator for a process with one thread: no operation waits."""

    def command(self) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return nullcontext()

    def catch_up(self, run_consumers: Callable[[], CatchUpResult], *, force: bool) -> CatchUpResult:
        """Run the consumers and return the result."""
        return run_consumers()

    def is_caught_up(self, position: int) -> bool:
        """Return False, because it is not known."""
        return False

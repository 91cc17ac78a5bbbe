"""Coordination of commands and consumers in one process: the interface, and the case of a single thread."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from popug_cli.bus.consumers import CatchUpResult


class Coordinator(Protocol):
    """Orders what a place does among what others do at the same time in this process."""

    def command(self) -> AbstractContextManager[None]:
        """Held around what a command changes."""
        ...

    def catch_up(self, work: Callable[[], CatchUpResult], *, force: bool) -> CatchUpResult:
        """Let the consumers work; unless thoroughly, who lets them work just now may do. How it went comes back."""
        ...

    def is_caught_up(self, position: int) -> bool:
        """Whether the consumers are known to have taken the log up to a position, or somebody lets them just now."""
        ...


class SingleThreaded:
    """The order of a process with one thread: there is none."""

    def command(self) -> AbstractContextManager[None]:
        """Goes ahead."""
        return nullcontext()

    def catch_up(self, work: Callable[[], CatchUpResult], *, force: bool) -> CatchUpResult:
        """Goes ahead."""
        return work()

    def is_caught_up(self, position: int) -> bool:
        """Nobody knows."""
        return False

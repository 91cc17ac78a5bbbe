"""Signals that end the process: what was begun is put away first, as after Ctrl-C."""

import os
import signal
import time
from collections.abc import Callable
from typing import TypeVar

TERMINATING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
SECOND_INTERRUPT_SECONDS = 2.0
Raised = TypeVar("Raised", bound=BaseException)


class Terminated(BaseException):
    """One of those signals came; no error, for whoever owns this process wants it to end."""

    def __init__(self, number: int) -> None:
        self.number = number


def run_with_signal_handling(work: Callable[[], int]) -> int:
    """Do the work of a process and return its exit code; a signal that ends it does so once everything is put away.

    What is ignored (under ``nohup``) stays ignored. From the end of the work on Ctrl-C changes nothing, and soon after
    a first one, while things are put away, neither.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    previous_handlers = {number: signal.getsignal(number) for number in TERMINATING_SIGNALS}
    try:
        for number, handler in previous_handlers.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, _terminate)
        code = work()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except Terminated as terminated:
        signal.signal(terminated.number, previous_handlers[signal.Signals(terminated.number)])
        os.kill(os.getpid(), terminated.number)
        code = 128 + terminated.number  # the first process of a container outlives a signal by which others end
    return code


def find_interrupt(error: BaseException) -> BaseException | None:
    """The signal or Ctrl-C amidst which an error came up, as one does in SQLAlchemy's own cleaning up; else None."""
    return find_in_context(error, (KeyboardInterrupt, Terminated))


def interrupt_message(interrupt: BaseException) -> str:
    """What was said of an interrupt where it came; empty where nothing was."""
    error: BaseException | None = interrupt
    while error is not None and not (isinstance(error, KeyboardInterrupt) and str(error)):
        error = error.__context__
    return str(error or "")


def _interrupt(*_: object) -> None:
    signal.signal(signal.SIGINT, _interrupt_again(time.monotonic()))
    raise KeyboardInterrupt


def _interrupt_again(first_at: float) -> Callable[..., None]:
    """What Ctrl-C does after a first one at that time: who waits for the end in vain is heard."""

    def interrupt(*_: object) -> None:
        if time.monotonic() - first_at > SECOND_INTERRUPT_SECONDS:
            raise KeyboardInterrupt

    return interrupt


def _terminate(number: int, _: object) -> None:
    """Raise where the program is; another signal while it puts things away changes nothing."""
    for ignored in (*TERMINATING_SIGNALS, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)
    raise Terminated(number)


def find_in_context(error: BaseException, kinds: type[Raised] | tuple[type[Raised], ...]) -> Raised | None:
    """The error itself or the nearest amidst which it came up that is of some kinds, as in SQLAlchemy's cleaning up."""
    current: BaseException | None = error
    while current is not None and not isinstance(current, kinds):
        current = current.__context__
    return current

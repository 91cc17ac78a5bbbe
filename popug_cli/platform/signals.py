"""Signals that end the process: SIGTERM and SIGHUP raise an exception, as Ctrl-C does, so that clean-up code runs.

By default they end a process immediately. The database is whole afterwards, but the temporary home of a backup and the
temporary file of a setting stay behind; the harness ``tests/simulation/signals`` sends a signal at every point of a
day. During such an end a library that cleans up may raise its own error. So
``find_in_context`` looks for the signal behind an error. See
``decisions/0026-network-file-systems-are-refused-signals-clean-up-first.md`` and, for a second Ctrl-C,
``decisions/0034-os-errors-are-environment-errors.md``.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

TERMINATING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
SECOND_INTERRUPT_SECONDS = 2.0
Raised = TypeVar("Raised", bound=BaseException)


class Terminated(BaseException):
    """A terminating signal arrived. It is not an error: the owner of this process wants it to end."""

    def __init__(self, number: int) -> None:
        self.number = number


def run_with_signal_handling(run: Callable[[], int]) -> int:
    """Call ``run`` and return its exit status. On SIGTERM or SIGHUP clean up, then die by that signal.

    Ignored signals stay ignored (``nohup``). Ctrl-C is ignored after ``run`` has returned, and for two seconds after a
    first Ctrl-C, while the process cleans up.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    previous_handlers = {number: signal.getsignal(number) for number in TERMINATING_SIGNALS}
    try:
        for number, handler in previous_handlers.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, _terminate)
        exit_status = run()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except Terminated as terminated:
        signal.signal(terminated.number, previous_handlers[signal.Signals(terminated.number)])
        os.kill(os.getpid(), terminated.number)
        exit_status = 128 + terminated.number  # process 1 of a container survives a signal that ends others
    return exit_status


def find_interrupt(error: BaseException) -> BaseException | None:
    """Return the signal or Ctrl-C during which an error was raised, or None."""
    return find_in_context(error, (KeyboardInterrupt, Terminated))


def interrupt_message(interrupt: BaseException) -> str:
    """Return the first message of a ``KeyboardInterrupt`` in the ``__context__`` chain, or an empty text."""
    messages = (str(error) for error in _context_chain(interrupt) if isinstance(error, KeyboardInterrupt))
    return next(filter(None, messages), "")


def _interrupt(*_: object) -> None:
    signal.signal(signal.SIGINT, _interrupt_again(time.monotonic()))
    raise KeyboardInterrupt


def _interrupt_again(first_at: float) -> Callable[..., None]:
    """Return a handler that ignores Ctrl-C for two seconds after the first one, and then raises again."""

    def interrupt(*_: object) -> None:
        if time.monotonic() - first_at > SECOND_INTERRUPT_SECONDS:
            raise KeyboardInterrupt

    return interrupt


def _terminate(number: int, _: object) -> None:
    """Raise ``Terminated`` in the main thread, and ignore further signals while it cleans up."""
    for ignored in (*TERMINATING_SIGNALS, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)
    raise Terminated(number)


def find_in_context(
    error: BaseException,
    kinds: type[Raised] | tuple[type[Raised], ...],
    *,
    except_for: tuple[type[BaseException], ...] = (),
) -> Raised | None:
    """Return the first exception of the given kinds in the ``__context__`` chain of ``error``, itself included.

    Exceptions of the types ``except_for`` are skipped.
    """
    for exception in _context_chain(error):
        if isinstance(exception, kinds) and not isinstance(exception, except_for):
            return exception
    return None


def _context_chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__context__

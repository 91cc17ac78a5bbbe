"""End the dashboard when its terminal has vanished or a signal asks for it, even if the terminal blocks all output.

Textual reads a vanished terminal in an endless loop, and waits forever for a terminal that accepts no output. So a
separate thread watches for both: it asks the application to leave, and ends the process if that takes too long.
"""

import os
import signal
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from select import select
from threading import Event, Thread
from typing import Any

POLL_SECONDS = 0.25
LEAVE_SECONDS, LEAVE_SECONDS_WITHOUT_TERMINAL = 2.0, 1.0
# Mouse and paste modes off, main screen, cursor visible.
MAIN_SCREEN = b"\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1049l\x1b[?25h"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class TerminalWatch:
    """Calls `leave` once the terminal has vanished or `end` was called; ends the process if leaving takes too long."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave
        self._end_requested, self._has_ended = Event(), Event()
        self._descriptors = [stream.fileno() for stream in (sys.__stdin__, sys.__stderr__) if stream]
        self._attributes = [(descriptor, _attributes(descriptor)) for descriptor in self._descriptors]
        self.has_vanished = False

    def start(self) -> None:
        """Start the thread. It also notices a terminal that vanished while the program was loading."""
        Thread(target=self._watch, name="popug-terminal", daemon=True).start()

    def end(self) -> None:
        """Ask the application to leave."""
        self._end_requested.set()

    def stop(self) -> None:
        """Record that the application has ended. Discard what it could not write to a terminal that has vanished."""
        self._has_ended.set()
        if self.has_vanished:
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in range(3):
                os.dup2(null, descriptor)

    def _watch(self) -> None:
        while not self._end_requested.wait(POLL_SECONDS):
            if self._has_ended.is_set():
                return
            if any(_attributes(descriptor) is None for descriptor in self._descriptors):
                self.has_vanished = True
                break
        self._leave()
        if not self._has_ended.wait(LEAVE_SECONDS_WITHOUT_TERMINAL if self.has_vanished else LEAVE_SECONDS):
            try:
                self._restore_terminal()
            finally:
                os._exit(0)

    def _restore_terminal(self) -> None:
        for descriptor, attributes in self._attributes:
            if attributes is None:
                continue
            with suppress(termios.error, OSError):
                termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
                if select([], [descriptor], [], 0)[1]:
                    os.write(descriptor, MAIN_SCREEN)


@contextmanager
def watched_terminal(leave: Callable[[], None]) -> Iterator[TerminalWatch]:
    """Watch the terminal during the block, and let signals that are not ignored end the application.

    `leave` is called in the watching thread.
    """
    watch = TerminalWatch(leave)
    previous_handlers = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in previous_handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, lambda *_: watch.end())
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


def _attributes(descriptor: int) -> list[Any] | None:
    """Return the attributes of a terminal, or None if there is none any more."""
    try:
        return termios.tcgetattr(descriptor)
    except (termios.error, OSError):
        return None

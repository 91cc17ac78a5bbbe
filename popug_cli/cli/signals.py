"""Signals that end the process: what was begun is put away first, as after Ctrl-C."""

import os
import signal
import time
from collections.abc import Callable

from popug_cli.kernel.errors import behind

ENDING = (signal.SIGTERM, signal.SIGHUP)
IMPATIENCE_SECONDS = 2.0


class Ended(BaseException):
    """One of those signals came; no error, for whoever owns this process wants it to end."""

    def __init__(self, number: int) -> None:
        self.number = number


def in_order(work: Callable[[], int]) -> int:
    """Do the work of a process and return its exit code; a signal that ends it does so once everything is put away.

    What is ignored (under ``nohup``) stays ignored. From the end of the work on Ctrl-C changes nothing, and soon after
    a first one, while things are put away, neither.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    found = {number: signal.getsignal(number) for number in ENDING}
    try:
        for number, before in found.items():
            if before is not signal.SIG_IGN:
                signal.signal(number, _end)
        code = work()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except Ended as ended:
        signal.signal(ended.number, found[signal.Signals(ended.number)])
        os.kill(os.getpid(), ended.number)
        code = 128 + ended.number  # the first process of a container outlives a signal by which others end
    return code


def stop_behind(error: BaseException) -> BaseException | None:
    """The signal or Ctrl-C amidst which an error came up, as one does in SQLAlchemy's own cleaning up; else None."""
    return behind(error, (KeyboardInterrupt, Ended))


def said_behind(stop: BaseException) -> str:
    """What was said of an interrupt where it came; empty where nothing was."""
    said: BaseException | None = stop
    while said is not None and not (isinstance(said, KeyboardInterrupt) and str(said)):
        said = said.__context__
    return str(said or "")


def _interrupt(*_: object) -> None:
    signal.signal(signal.SIGINT, _interrupt_again(time.monotonic()))
    raise KeyboardInterrupt


def _interrupt_again(before: float) -> Callable[..., None]:
    """What Ctrl-C does after a first one at that time: who waits for the end in vain is heard."""

    def interrupt(*_: object) -> None:
        if time.monotonic() - before > IMPATIENCE_SECONDS:
            raise KeyboardInterrupt

    return interrupt


def _end(number: int, _: object) -> None:
    """Raise where the program is; another signal while it puts things away changes nothing."""
    for each in (*ENDING, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    raise Ended(number)

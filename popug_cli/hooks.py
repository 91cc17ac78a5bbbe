"""What has the hooks run: a look now and then beside the scheduler or a server, or one look."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from popug_cli.app import Local
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.progress import Progress
from popug_cli.messages.hooks import HookRun, RunHooks
from popug_cli.messages.principal import SCHEDULER

LOOK_SECONDS = 1.0
ROUND_SECONDS = 20
GRACE_SECONDS = 1.0
HOME_IS_GONE = "server_unavailable"

Open = Callable[[Progress], Local]


class Tell(Protocol):
    """Hears of what keeps hooks from being run."""

    def failed(self, error: PopugError) -> None:
        """A look could not be taken; the next one tries again."""
        ...


class Stopped(BaseException):
    """No hook is to run any longer."""


@dataclass
class Looks:
    """One look after another; ``stopping`` ends the present one with every hook that is running.

    Where there is no folder of hooks and none is known, the company is not even opened.
    """

    open_place: Open
    folder: Path
    tell: Tell
    stopping: threading.Event = field(default_factory=threading.Event)
    _known: bool = True
    _trouble: str = ""

    def look(self, seconds: int) -> HookRun:
        """Run what is due; nothing is begun after so many seconds. Raises ``Stopped``."""
        place = self.open_place(self._step)
        try:
            run = place.perform(RunHooks(seconds=seconds), actor=SCHEDULER)
        finally:
            place.close()
        self._known = run.hooks > 0
        return run

    def run(self) -> None:
        """Look again and again, until it is to end or the home that is served is another's (who serves it says so)."""
        while not self.stopping.wait(LOOK_SECONDS):
            if not self._known and not self.folder.is_dir():
                continue
            try:
                self.look(ROUND_SECONDS)
                self._trouble = ""
            except PopugError as error:
                if error.code == HOME_IS_GONE:
                    return
                if error.message != self._trouble:
                    self._trouble = error.message
                    self.tell.failed(error)
            except Stopped:
                return

    def _step(self, label: str, done: int, total: int) -> None:
        if self.stopping.is_set():
            raise Stopped


@contextmanager
def running_beside(open_place: Open, folder: Path, tell: Tell) -> Iterator[None]:
    """Run hooks as long as something else runs in this process, which hears the signals."""
    looks = Looks(open_place, folder, tell)
    thread = threading.Thread(target=looks.run, name="popug-hooks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        looks.stopping.set()
        thread.join(GRACE_SECONDS)


def run_once(open_place: Open, folder: Path, tell: Tell) -> HookRun:
    """Run what is due and end, with every hook on SIGINT or SIGTERM."""
    looks = Looks(open_place, folder, tell)
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, frame: looks.stopping.set()) for number in numbers}
    try:
        return looks.look(RunHooks().seconds)
    except Stopped:
        return HookRun(0, 0, 0, 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""What has the hooks run: a look now and then beside the scheduler or a server, or one look."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from popug_cli.app import LocalBackend
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.progress import Progress
from popug_cli.messages.hooks import HookRunResult, RunHooks
from popug_cli.messages.principal import SCHEDULER

POLL_SECONDS = 1.0
HOOK_ROUND_LIMIT_SECONDS = 20
GRACE_SECONDS = 1.0
HOME_TAKEN_CODE = "server_unavailable"

OpenForHooks = Callable[[Progress], LocalBackend]


class HookReporter(Protocol):
    """Hears of what keeps hooks from being run."""

    def failed(self, error: PopugError) -> None:
        """A look could not be taken; the next one tries again."""
        ...


class HooksStopped(BaseException):
    """No hook is to run any longer."""


@dataclass
class HookPoller:
    """One look after another; ``stopping`` ends the present one with every hook that is running.

    Where there is no folder of hooks and none is known, the company is not even opened.
    """

    open_backend: OpenForHooks
    folder: Path
    reporter: HookReporter
    stopping: threading.Event = field(default_factory=threading.Event)
    _has_hooks: bool = True
    _last_error: str = ""

    def poll(self, seconds: int) -> HookRunResult:
        """Run what is due; nothing is begun after so many seconds. Raises ``HooksStopped``."""
        backend = self.open_backend(self._check_stopping)
        try:
            run = backend.perform(RunHooks(seconds=seconds), actor=SCHEDULER)
        finally:
            backend.close()
        self._has_hooks = run.hooks > 0
        return run

    def run(self) -> None:
        """Look again and again, until it is to end or the home that is served is another's (who serves it says so)."""
        while not self.stopping.wait(POLL_SECONDS):
            if not self._has_hooks and not self.folder.is_dir():
                continue
            try:
                self.poll(HOOK_ROUND_LIMIT_SECONDS)
                self._last_error = ""
            except PopugError as error:
                if error.code == HOME_TAKEN_CODE:
                    return
                if error.message != self._last_error:
                    self._last_error = error.message
                    self.reporter.failed(error)
            except HooksStopped:
                return

    def _check_stopping(self, label: str, done: int, total: int) -> None:
        if self.stopping.is_set():
            raise HooksStopped


@contextmanager
def run_in_background(open_backend: OpenForHooks, folder: Path, reporter: HookReporter) -> Iterator[None]:
    """Run hooks as long as something else runs in this process, which hears the signals."""
    poller = HookPoller(open_backend, folder, reporter)
    thread = threading.Thread(target=poller.run, name="popug-hooks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        poller.stopping.set()
        thread.join(GRACE_SECONDS)


def run_once(open_backend: OpenForHooks, folder: Path, reporter: HookReporter) -> HookRunResult:
    """Run what is due and end, with every hook on SIGINT or SIGTERM."""
    poller = HookPoller(open_backend, folder, reporter)
    signals = (signal.SIGINT, signal.SIGTERM)
    previous_handlers = {
        number: signal.signal(number, lambda number, frame: poller.stopping.set()) for number in signals
    }
    try:
        return poller.poll(RunHooks().seconds)
    except HooksStopped:
        return HookRunResult(0, 0, 0, 0)
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)

"""The hook loop: run due hooks every second in the background of a scheduler or server, or run them once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from popug_cli.app import LocalBackend
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.log import log_error
from popug_cli.kernel.progress import Progress
from popug_cli.messages.hooks import HookRunResult, RunHooks
from popug_cli.messages.principal import SCHEDULER
from popug_cli.platform import orphans

POLL_SECONDS = 1.0
HOOK_ROUND_LIMIT_SECONDS = 20
GRACE_SECONDS = 1.0
HOME_TAKEN_CODE = "server_unavailable"

OpenForHooks = Callable[[Progress], LocalBackend]


class HooksStopped(BaseException):
    """Ends the current round and its running hooks, because the hook loop is asked to stop."""


@dataclass
class HookPoller:
    """Runs due hooks, round after round. Setting `stopping` ends the current round and its running hooks.

    If the last round found no hooks and there is no hooks folder, the company is not opened. The error of a round is
    logged if it differs from that of the round before; the next round retries.
    """

    open_backend: OpenForHooks
    folder: Path
    stopping: threading.Event = field(default_factory=threading.Event)
    _has_hooks: bool = True
    _last_error: str = ""

    def poll(self, limit_seconds: int) -> HookRunResult:
        """Run the due hooks once; start none after `limit_seconds`.

        Raise ``HooksStopped`` if `stopping` is set, else the error of the round.
        """
        backend = self.open_backend(self._check_stopping)
        try:
            run = backend.perform(RunHooks(seconds=limit_seconds), actor=SCHEDULER)
        finally:
            backend.close()
        self._has_hooks = run.hooks > 0
        return run

    def run(self) -> None:
        """Poll until `stopping` is set, or until another process has taken the home (the server reports that)."""
        while not self.stopping.wait(POLL_SECONDS):
            orphans.reap()
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
                    log_error(error)
            except HooksStopped:
                return

    def _check_stopping(self, label: str, done: int, total: int) -> None:
        if self.stopping.is_set():
            raise HooksStopped


@contextmanager
def run_in_background(open_backend: OpenForHooks, folder: Path) -> Iterator[None]:
    """Run hooks in a thread during the block. The caller handles the signals."""
    poller = HookPoller(open_backend, folder)
    thread = threading.Thread(target=poller.run, name="popug-hooks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        poller.stopping.set()
        thread.join(GRACE_SECONDS)


def run_once(open_backend: OpenForHooks, folder: Path) -> HookRunResult:
    """Run the due hooks once. SIGINT or SIGTERM ends all running hooks; the result is then empty."""
    poller = HookPoller(open_backend, folder)
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

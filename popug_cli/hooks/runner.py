"""One round of hook runs: a thread per hook leases an event, runs the hook and settles the event, until none is due."""

import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event, Lock

import msgspec

from popug_cli.bus import hook_cursors
from popug_cli.bus.context import Context, Runtime
from popug_cli.bus.hook_cursors import ClaimedEvent
from popug_cli.bus.queries import document
from popug_cli.hooks.environment import environment, lease_duration
from popug_cli.hooks.files import HookFile
from popug_cli.hooks.process import ProcessResult, run_hook
from popug_cli.kernel.home import Home
from popug_cli.messages.principal import Principal

IDLE_POLL_SECONDS = 0.2
SIGNAL_POLL_SECONDS = 0.1  # a signal that the kernel delivers to another thread does not wake the waiting main thread


class Cancelled(BaseException):
    """Ends a hook's run because the round ends: another thread failed, or a signal arrived."""


@dataclass(slots=True)
class HookRunner:
    """Runs hooks for their due events. No hook is started after `limit_seconds`.

    `done`, `failed` and `dead` count events, the dead letters among the failed ones; `active` counts the running hooks.
    """

    runtime: Runtime
    home: Home
    warn: Callable[[str], None]
    principal: Principal
    limit_seconds: float
    done: int = 0
    failed: int = 0
    dead: int = 0
    active: int = 0
    cancelled: Event = field(default_factory=Event)
    lock: Lock = field(default_factory=Lock)
    began_at: float = field(default_factory=time.monotonic)

    def run_due_hooks(self, files: list[HookFile]) -> None:
        """Run hooks for their due events. Raise the first error of a thread once all threads have ended."""
        with ThreadPoolExecutor(len(files), thread_name_prefix="popug-hook") as pool:
            futures = [pool.submit(self._process_events, file) for file in files]
            try:
                while _should_wait(futures):
                    wait(futures, SIGNAL_POLL_SECONDS, return_when=FIRST_EXCEPTION)
            finally:
                self.cancelled.set()
        errors = [error for future in futures if (error := future.exception()) is not None]
        for error in errors:
            if not isinstance(error, Cancelled):
                raise error

    def _process_events(self, file: HookFile) -> None:
        """Process the hook's events one by one. Without a due event, poll while another hook is running."""
        claimed: ClaimedEvent | None = None
        while claimed or not self._is_over():
            claimed = claimed or self._lease_next(file)
            if claimed is not None:
                claimed = self._run_and_settle(file, claimed)
            elif not self.active or self.cancelled.wait(IDLE_POLL_SECONDS):
                return

    def _is_over(self) -> bool:
        return self.cancelled.is_set() or time.monotonic() - self.began_at >= self.limit_seconds

    def _lease_next(self, file: HookFile) -> ClaimedEvent | None:
        runtime = self.runtime
        lease = lease_duration(runtime.settings)
        with runtime.reading(self.principal) as context:
            if not hook_cursors.is_due(context, file.name, file.types, lease):
                return None
        with runtime.writing(self.principal) as context:
            return hook_cursors.lease_next(context, file.name, file.types, lease)

    def _run_and_settle(self, file: HookFile, claimed: ClaimedEvent) -> ClaimedEvent | None:
        """Run the hook outside any transaction; settle the event and lease the next one in one transaction."""
        with self.lock:
            self.active += 1
        try:
            result = self._run(file, claimed)
            with self.runtime.writing(self.principal) as context:
                self._settle(context, claimed, result)
                if self._is_over():
                    return None
                return hook_cursors.lease_next(context, file.name, file.types, lease_duration(context.settings))
        finally:
            with self.lock:
                self.active -= 1

    def _run(self, file: HookFile, claimed: ClaimedEvent) -> ProcessResult:
        event = document(claimed.sequence, claimed.envelope)
        timeout_seconds = self.runtime.settings.number("hooks.timeout_seconds")
        variables = environment(self.home, event)
        try:
            return run_hook(
                file.path, msgspec.json.encode(event), variables, timeout_seconds=timeout_seconds, on_poll=self._on_poll
            )
        except BaseException:
            with self.runtime.writing(self.principal) as context:
                hook_cursors.release(context, claimed)
            raise

    def _on_poll(self) -> None:
        if self.cancelled.is_set():
            raise Cancelled
        self.runtime.progress("Running hooks", self.done + self.failed, self.done + self.failed + self.active)

    def _settle(self, context: Context, claimed: ClaimedEvent, result: ProcessResult) -> None:
        if result.exit_status == 0:
            hook_cursors.mark_done(context, claimed)
            self._count(done=1)
            return
        error = result.describe_failure(context.settings.number("hooks.timeout_seconds"))
        is_dead = hook_cursors.mark_failed(context, claimed, error)
        self._count(failed=1, dead=int(is_dead))
        consequence = "failed; the event is a dead letter" if is_dead else "failed and will be retried"
        self.warn(f"The hook {claimed.hook} {consequence} ({error}); see `popug hooks list`.")

    def _count(self, *, done: int = 0, failed: int = 0, dead: int = 0) -> None:
        with self.lock:
            self.done, self.failed, self.dead = self.done + done, self.failed + failed, self.dead + dead


def _should_wait(futures: "list[Future[None]]") -> bool:
    """Return whether some threads are running and no thread has failed."""
    return not all(future.done() for future in futures) and not any(
        future.exception() for future in futures if future.done()
    )

"""Run one hook process: in its own session, with the event on stdin, a bounded output and a time limit."""

import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from popug_cli.kernel.errors import Unavailable
from popug_cli.platform.posix_errors import DISK_FULL, OUT_OF_RESOURCES

KEPT_BYTES = 16 * 1024
READ_BYTES = 64 * 1024
POLL_SECONDS = 0.05
GRACE_SECONDS = 0.3
TIMED_OUT = 124
NOT_STARTED = 126
SIGNAL_EXIT_BASE = 128
MACHINE_ERRORS = OUT_OF_RESOURCES | DISK_FULL


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """Result of a run: the exit status in the shell's convention, and the end of the output."""

    exit: int
    output: str

    def sentence(self, timeout_seconds: int) -> str:
        """Describe the failure in one line."""
        last = " ".join(self.output.split())
        reasons = {TIMED_OUT: f"it took longer than {timeout_seconds} s", NOT_STARTED: "it could not be started"}
        why = reasons.get(self.exit, f"exit {self.exit}")
        return f"{why}: {last}" if last else why


def run_hook(
    path: Path, document: bytes, environment: Mapping[str, str], *, seconds: int, step: Callable[[], None]
) -> ProcessResult:
    """Run a program until it exits, or for at most `seconds`; then end all processes of its group.

    Call `step` every ``POLL_SECONDS``; an error that it raises ends the run. Raise ``hook_not_run`` if the machine has
    no resources for it.
    """
    try:
        with TemporaryFile() as event:
            event.write(document)
            event.seek(0)
            process = subprocess.Popen(  # noqa: S603 - the operator's own program, whose owner was checked
                [path],
                stdin=event,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=environment["POPUG_HOME"],
                env=environment,
                start_new_session=True,
                bufsize=0,
            )
    except OSError as error:
        return _not_started(path, error)
    tail = bytearray()
    try:
        timed_out = not _watch(process, tail, time.monotonic() + seconds, step)
    finally:
        _end(process)
        status = process.returncode
        assert process.stdout is not None
        process.stdout.close()
    status = TIMED_OUT if timed_out else SIGNAL_EXIT_BASE - status if status < 0 else status
    return ProcessResult(status, tail.decode(errors="replace").replace("\0", "\ufffd"))


def _not_started(path: Path, error: OSError) -> ProcessResult:
    if error.errno in MACHINE_ERRORS:
        raise Unavailable(
            "hook_not_run", f"{path.name} could not be run: {error.strerror}.", hint="It will be retried."
        ) from error
    lacks = "; its first line must name an interpreter, such as #!/bin/sh" if error.errno == errno.ENOEXEC else ""
    return ProcessResult(NOT_STARTED, f"{error.strerror}{lacks}")


def _watch(process: "subprocess.Popen[bytes]", tail: bytearray, deadline: float, step: Callable[[], None]) -> bool:
    """Read the output; return whether the program ended before `deadline` (monotonic)."""
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    os.set_blocking(pipe, False)
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    is_open = True
    while time.monotonic() < deadline:
        step()
        if is_open and poller.poll(POLL_SECONDS * 1000):
            is_open = _read(pipe, tail)
        elif _has_ended(process, 0 if is_open else POLL_SECONDS):
            while is_open and poller.poll(0) and len(tail) < KEPT_BYTES:
                is_open = _read(pipe, tail)
            return True
    return False


def _read(pipe: int, tail: bytearray) -> bool:
    """Read from the pipe and keep the last ``KEPT_BYTES``. Return False at the end of the output."""
    chunk = os.read(pipe, READ_BYTES)
    tail += chunk
    del tail[:-KEPT_BYTES]
    return bool(chunk)


def _has_ended(process: "subprocess.Popen[bytes]", wait_seconds: float) -> bool:
    try:
        process.wait(wait_seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the program and its process group: SIGTERM, a grace period, SIGKILL."""
    if process.returncode is None:
        _signal(process, signal.SIGTERM)
        _has_ended(process, GRACE_SECONDS)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)

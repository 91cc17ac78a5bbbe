"""Run one hook process: in its own session, with the event on stdin, a bounded output and a time limit.

This process adopts the processes that a hook leaves running, so that it can end them as well.
"""

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
from typing import IO

from popug_cli.kernel.errors import Unavailable
from popug_cli.platform import orphans
from popug_cli.platform.posix_errors import DISK_FULL, OUT_OF_RESOURCES
from popug_cli.platform.temporary import unnamed_file

MAX_OUTPUT_BYTES = 16 * 1024
READ_BYTES = 64 * 1024
POLL_SECONDS = 0.05
GRACE_SECONDS = 0.3
TIMEOUT_STATUS = 124
NOT_STARTED_STATUS = 126
SIGNAL_STATUS_BASE = 128
MAX_FIRST_LINE_BYTES = 256
RESOURCE_ERRORS = OUT_OF_RESOURCES | DISK_FULL
HOOK_VARIABLE = "POPUG_HOOK"
RUN_VARIABLES = (HOOK_VARIABLE, "POPUG_HOME", "POPUG_EVENT_ID")  # together they identify a run


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """Result of a run: the exit status, and the last ``MAX_OUTPUT_BYTES`` of the output.

    As in a shell, the status is 126 if the program could not be started, and 128 plus the number of the signal that
    ended it. As with ``timeout`` (coreutils), it is 124 after a timeout.
    """

    exit_status: int
    output: str

    def describe_failure(self, timeout_seconds: int) -> str:
        """Describe the failure in one line."""
        output = " ".join(self.output.split())
        reasons = {
            TIMEOUT_STATUS: f"it took longer than {timeout_seconds} s",
            NOT_STARTED_STATUS: "it could not be started",
        }
        reason = reasons.get(self.exit_status, f"exit {self.exit_status}")
        return f"{reason}: {output}" if output else reason


def run_hook(
    path: Path, event_json: bytes, environment: Mapping[str, str], *, timeout_seconds: int, on_poll: Callable[[], None]
) -> ProcessResult:
    """Run a program until it exits, or for at most `timeout_seconds`, and return the result.

    Then kill the processes that it left: those in its group and, on Linux, those that called ``setsid`` but inherited
    its environment. Call `on_poll` at least every ``POLL_SECONDS``; an error that it raises ends the run. Raise
    ``hook_not_run`` if memory, file descriptors, processes or space for a file are missing.
    """
    variables = {**environment, HOOK_VARIABLE: path.name}
    try:
        with _event_file(path, event_json) as event_file:
            process = orphans.start(
                [path],
                stdin=event_file,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=variables["POPUG_HOME"],
                env=variables,
                bufsize=0,
            )
    except OSError as error:
        return _not_started(path, error)
    output = bytearray()
    try:
        timed_out = not _read_until_exit(process, output, time.monotonic() + timeout_seconds, on_poll)
    finally:
        _kill_group(process)
        orphans.end_orphans_of(process, [os.fsencode(f"{name}={variables[name]}") for name in RUN_VARIABLES])
        status = process.returncode
        assert process.stdout is not None
        process.stdout.close()
    status = TIMEOUT_STATUS if timed_out else SIGNAL_STATUS_BASE - status if status < 0 else status
    return ProcessResult(status, output.decode(errors="replace").replace("\0", "\ufffd"))


def _event_file(path: Path, event_json: bytes) -> IO[bytes]:
    """Return a file with the event; raise ``hook_not_run`` if it cannot be created, which is not the hook's failure."""
    try:
        file = unnamed_file()
        file.write(event_json)
        file.seek(0)
    except OSError as error:
        raise _not_run(path, error) from error
    return file


def _not_run(path: Path, error: OSError) -> Unavailable:
    return Unavailable("hook_not_run", f"{path.name} could not be run: {error.strerror}.", hint="It will be retried.")


def _not_started(path: Path, error: OSError) -> ProcessResult:
    if error.errno in RESOURCE_ERRORS:
        raise _not_run(path, error) from error
    return ProcessResult(NOT_STARTED_STATUS, f"{error.strerror}{_interpreter_hint(path, error)}")


def _interpreter_hint(path: Path, error: OSError) -> str:
    """Return what to correct in the first line, if the interpreter there is missing, else an empty text."""
    if error.errno == errno.ENOEXEC:
        return "; its first line must name an interpreter, such as #!/bin/sh"
    if error.errno != errno.ENOENT or not path.exists():
        return ""
    with path.open("rb") as file:
        line = file.readline(MAX_FIRST_LINE_BYTES)
    if line.endswith(b"\r\n"):
        return "; its first line ends with a carriage return: remove it with `sed -i 's/\\r$//'` on the file"
    interpreter = line.removeprefix(b"#!").strip().decode(errors="replace")
    return f"; its first line names {interpreter}, which does not exist" if line.startswith(b"#!") else ""


def _read_until_exit(
    process: "subprocess.Popen[bytes]", output: bytearray, deadline: float, on_poll: Callable[[], None]
) -> bool:
    """Read the output until the program exits; return False if `deadline` (monotonic) comes first."""
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    os.set_blocking(pipe, False)
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    is_output_open = True
    while time.monotonic() < deadline:
        on_poll()
        if is_output_open and poller.poll(POLL_SECONDS * 1000):
            is_output_open = _read_chunk(pipe, output)
        elif _has_ended(process, 0 if is_output_open else POLL_SECONDS):
            while is_output_open and poller.poll(0) and len(output) < MAX_OUTPUT_BYTES:
                is_output_open = _read_chunk(pipe, output)
            return True
    return False


def _read_chunk(pipe: int, output: bytearray) -> bool:
    """Append a chunk to `output` and keep the last ``MAX_OUTPUT_BYTES``. Return False at the end of the output."""
    chunk = os.read(pipe, READ_BYTES)
    output += chunk
    del output[:-MAX_OUTPUT_BYTES]
    return bool(chunk)


def _has_ended(process: "subprocess.Popen[bytes]", wait_seconds: float) -> bool:
    try:
        process.wait(wait_seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill the process group. If the program still runs, send SIGTERM and wait for a grace period first."""
    if process.returncode is None:
        _signal_group(process, signal.SIGTERM)
        _has_ended(process, GRACE_SECONDS)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: "subprocess.Popen[bytes]", signal_number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal_number)

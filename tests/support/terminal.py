"""A shell at a terminal at which a user types passwords."""

import os
import pty
import select
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

LIMIT_SECONDS = 120
PROMPT_ENDS = (b": ", b"? ")


def type_into_shell(script: str, password: str, *, folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run a script and type the password at each prompt. Return its exit code and all its output."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.execve("/bin/bash", ["bash", "-euo", "pipefail", "-c", script], dict(environment))
    try:
        shown = _converse(terminal, password.encode() + b"\n")
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(terminal)
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), shown.decode(errors="replace").replace("\r\n", "\n")


def _converse(terminal: int, line: bytes) -> bytes:
    shown, answered = b"", 0
    deadline = time.monotonic() + LIMIT_SECONDS
    while select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            return shown
        if not part:
            return shown
        shown += part
        asked = shown[answered:].rpartition(b"\n")[2]
        if b"assword" in asked and asked.endswith(PROMPT_ENDS):
            answered = len(shown)
            os.write(terminal, line)
    raise AssertionError(f"the shell did not end in {LIMIT_SECONDS} s:\n{shown.decode(errors='replace')}")


def answer_at_terminal(
    command: list[str], prompt: str, answer: str, *, environment: Mapping[str, str], before_answer: Callable[[], object]
) -> tuple[int, str]:
    """Run a command at a terminal, and type an answer once a prompt is shown. Return its exit code and its output.

    ``before_answer`` is called between the prompt and the answer; a command that shows no prompt gets no answer.
    """
    child, terminal = pty.fork()
    if child == 0:
        os.execve(command[0], command, dict(environment))
    shown, is_answered, deadline = b"", False, time.monotonic() + LIMIT_SECONDS
    try:
        while time.monotonic() < deadline:
            if prompt.encode() in shown and not is_answered:
                before_answer()
                os.write(terminal, answer.encode())
                is_answered = True
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    shown += os.read(terminal, 65536)
                except OSError:
                    break
    finally:
        os.close(terminal)
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), shown.decode(errors="replace").replace("\r\n", "\n")

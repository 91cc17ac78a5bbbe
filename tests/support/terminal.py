"""Commands at a terminal, at which a user types passwords and answers."""

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

    def reply(shown: bytes) -> bytes:
        asked = shown.rpartition(b"\n")[2]
        return password.encode() + b"\n" if b"assword" in asked and asked.endswith(PROMPT_ENDS) else b""

    return _run(["/bin/bash", "-euo", "pipefail", "-c", script], reply, folder, environment)


def answer_at_terminal(
    command: list[str], prompt: str, answer: str, *, environment: Mapping[str, str], before_answer: Callable[[], object]
) -> tuple[int, str]:
    """Run a command at a terminal, and type an answer once a prompt is shown. Return its exit code and its output.

    ``before_answer`` is called between the prompt and the answer; a command that shows no prompt gets no answer.
    """
    answers = [answer.encode()]

    def reply(shown: bytes) -> bytes:
        if prompt.encode() not in shown or not answers:
            return b""
        before_answer()
        return answers.pop()

    return _run(command, reply, Path.cwd(), environment)


def _run(
    command: list[str], reply: Callable[[bytes], bytes], folder: Path, environment: Mapping[str, str]
) -> tuple[int, str]:
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.execve(command[0], command, dict(environment))
    try:
        shown = _converse(terminal, reply)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(terminal)
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), shown.decode(errors="replace").replace("\r\n", "\n")


def _converse(terminal: int, reply: Callable[[bytes], bytes]) -> bytes:
    """Return all output; type what ``reply`` returns for the output since the last reply."""
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
        if typed := reply(shown[answered:]):
            answered = len(shown)
            os.write(terminal, typed)
    raise AssertionError(f"the command did not end in {LIMIT_SECONDS} s:\n{shown.decode(errors='replace')}")

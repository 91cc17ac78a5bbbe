"""Fork processes of the program from one that has imported it; ``python -m tests.support.cluster.zygote`` is that one.

Each line on its standard input is an ``Order``; it answers with the id of the process. It ends with its input.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import msgspec

END_SECONDS = 60
POLL_SECONDS = 0.01


class Order(msgspec.Struct):
    """A command of the program, its environment, and the file that receives its output.

    ``topics`` is a folder of topics that link the service; if it is empty, the program links it itself.
    """

    arguments: list[str]
    environment: dict[str, str]
    log: str
    folder: str
    topics: str = ""
    clock_offset_seconds: float = 0.0


class Zygote:
    """The process that forks, as seen by the tests."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.cluster.zygote"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def start(self, order: Order) -> int:
        """Start a process and return its id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the process; it kills those that it has started and that still run."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(END_SECONDS)


def end(pids: Sequence[int]) -> None:
    """Ask processes to end and wait for them, then kill those that did not."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGCONT)
    until = time.monotonic() + END_SECONDS
    for pid in pids:
        while is_alive(pid):
            if time.monotonic() > until:
                os.kill(pid, signal.SIGKILL)
            time.sleep(POLL_SECONDS)


def is_alive(pid: int) -> bool:
    """Return whether a process exists; the zygote leaves none that has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def main() -> None:
    """Fork a process for each order."""
    from popug_cli.cli import main as _program  # noqa: F401  (imported once, for all processes)
    from popug_cli.cluster import service  # noqa: F401
    from popug_cli.cluster.gateway import gateway  # noqa: F401
    from popug_cli.server import run  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended processes leave nothing behind
    started: list[int] = []
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        pid = os.fork()
        if not pid:
            _run(order)
        started.append(pid)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
    for pid in started:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _run(order: Order) -> None:
    """Become the program."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream, target in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(target, stream)
    os.environ.clear()
    os.environ.update(order.environment)
    os.chdir(order.folder)
    if order.clock_offset_seconds:
        import time_machine

        time_machine.travel(timedelta(seconds=order.clock_offset_seconds), tick=True).start()
    if order.topics:
        _link(Path(order.topics))
    from popug_cli.cli.main import run

    code = 1
    try:
        code = run(order.arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _link(folder: Path) -> None:
    """Let the leader of a service link its log with the others over topics in files, without brokers."""
    from popug_cli.cluster import service
    from tests.support.cluster.file_topic import topics_in

    service.joined = partial(service.joined, open_topics=lambda *_: topics_in(folder))


def inherited_environment() -> Mapping[str, str]:
    """Return what a process inherits of the tests' environment: only what coverage needs, and the paths."""
    return {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_") or name == "PATH"}


if __name__ == "__main__":
    main()

"""Run a cluster on one machine for a short time, as the demo does: five services and a gateway.

Systemd or containers run the processes of a cluster that stays; see ``.github/CLUSTER.md``.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.messages.services import SERVICES
from popug_cli.platform.orphans import end_with_parent

GATEWAY = "gateway"
START_SECONDS = 60.0
END_SECONDS = 10.0
POLL_SECONDS = 0.05


class LocalProcesses:
    """The processes of a cluster; ``folder`` receives what they print.

    They get the environment of this process without its settings of popug, and ``environment`` in addition. They end
    with the ``with`` block; on Linux they also end when this process is killed.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        own = {name: text for name, text in os.environ.items() if not name.startswith("POPUG_")}
        self._environment = own | dict(environment)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.url = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self) -> None:
        """Start all processes, and wait until they listen; ``url`` is then the gateway's address.

        Raise ``service_unavailable``, with the reason, if one of them does not start within ``START_SECONDS``.
        """
        for service in SERVICES:
            self._begin(service, "--module", service)
        self._begin(GATEWAY, "--gateway", "--listen", "127.0.0.1:0")
        deadline = time.monotonic() + START_SECONDS
        for name in self._processes:
            urls = self._wait(name, deadline)
            if name == GATEWAY:
                self.url = next(url for url in urls if url.startswith("http"))

    @property
    def pids(self) -> dict[str, int]:
        """Return the ids of the processes by their names."""
        return {name: process.pid for name, process in self._processes.items()}

    def end(self) -> None:
        """End all processes, and wait for them; kill those that still run after ``END_SECONDS``."""
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + END_SECONDS
        for process in self._processes.values():
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def _begin(self, name: str, *options: str) -> None:
        line = [sys.executable, "-m", "popug_cli", "serve", *options, "--json"]
        with self._output(name).open("wb") as out, self._log(name).open("wb") as log:
            self._processes[name] = subprocess.Popen(  # noqa: S603 - this program itself
                line,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                start_new_session=True,  # Ctrl-C of a terminal is for this process, which then ends them
                preexec_fn=end_with_parent,  # noqa: PLW1509 - it calls the kernel, and takes no lock
            )

    def _wait(self, name: str, deadline: float) -> list[str]:
        """Return the addresses on which a process listens."""
        while time.monotonic() < deadline:
            has_ended = self._processes[name].poll() is not None
            for line in self._output(name).read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n") and (document := json.loads(line)).get("event") == "listening":
                    urls: list[str] = document["urls"]
                    return urls
            if has_ended:
                break
            time.sleep(POLL_SECONDS)
        raise self._not_started(name)

    def _not_started(self, name: str) -> PopugError:
        reported = self._reported_error(name)
        what = "The gateway" if name == GATEWAY else f"The service {name}"
        return Unavailable(
            "service_unavailable",
            f"{what} of the demo did not start: {reported.get('message') or 'it does not listen.'}",
            hint=reported.get("hint", "") or "Run `popug demo` without --brokers to see the day in one process.",
            details={"service": name},
        )

    def _reported_error(self, name: str) -> dict[str, str]:
        """Return the error that a process has reported on stderr, or an empty one."""
        for line in reversed(self._log(name).read_text(errors="replace").splitlines()):
            try:
                document: Any = json.loads(line)
            except ValueError:
                continue
            if isinstance(document, dict) and isinstance(document.get("error"), dict):
                error: dict[str, str] = document["error"]
                return error
        return {}

    def _output(self, name: str) -> Path:
        return self._folder / f"{name}.out"

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

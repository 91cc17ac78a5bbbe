"""A server that holds the home of a company under test, so that all its commands use the socket."""

import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

START_SECONDS = 60
END_SECONDS = 60


class Residence:
    """At most one server of one home; it is restarted when its environment changes."""

    def __init__(self, home: Path, log: Path) -> None:
        self._socket = home / "popug.sock"
        self._database = home / "popug.db"
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._environment: Mapping[str, str] = {}

    @property
    def variables(self) -> dict[str, str]:
        """The variables with which a client finds the server: none, since its socket is in the home."""
        return {}

    def ensure(self, program: Sequence[str], environment: Mapping[str, str]) -> None:
        """Have a server in this environment; have none if there is no company or the company cannot be served."""
        if self.is_there and environment == self._environment:
            return
        self.end()
        if not self._database.is_file():
            return
        self._environment = dict(environment)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*program, "serve"], env=self._environment, stdout=log, stderr=log)
        until = time.monotonic() + START_SECONDS
        while self.is_there and not self._answers():
            assert time.monotonic() < until, self._log.read_text()
            time.sleep(0.02)

    @property
    def is_there(self) -> bool:
        """Return whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def end(self) -> None:
        """End the server, which must end by itself."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            finally:
                process.kill()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as door, suppress(OSError):
            door.connect(str(self._socket))
            return True
        return False

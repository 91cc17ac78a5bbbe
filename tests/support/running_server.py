"""A server process, and requests to it."""

import atexit
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self

from tests.support.server_fixture import ServerFixture

PATIENCE_SECONDS = 60
JSON = {"Content-Type": "application/json"}


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_SECONDS)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE_SECONDS)
        self.sock.connect(self._path)


@dataclass(frozen=True)
class Answer:
    """An answer: the status, the headers by lower-case name, the body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class RunningServer:
    """A running ``popug serve`` of a home; ``patch`` are lines of Python that run in it first."""

    def __init__(self, home: Path, *options: str, patch: str = "", environment: dict[str, str] | None = None) -> None:
        self.home = home
        arguments = ["serve", "--home", str(home), "--json", *options]
        code = f"{patch}\nimport sys\nfrom popug_cli.cli.main import run\nsys.exit(run({arguments!r}))"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | (environment or {}),
        )
        assert self.process.stdout is not None
        self.started: dict[str, Any] = {}
        self.events: list[dict[str, Any]] = []
        while self.started.get("event") != "listening":
            line = self.process.stdout.readline()
            if not line:
                raise AssertionError(self.process.communicate()[1])
            self.started = json.loads(line)
            self.events.append(self.started)
        self.urls: list[str] = self.started["urls"]

    @property
    def socket(self) -> Path:
        return self.home / "popug.sock"

    @property
    def port(self) -> int:
        return int(self.urls[-1].rpartition(":")[2])

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = UnixConnection(self.socket)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return Answer(
                response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            )
        finally:
            connection.close()

    def post(self, route: str, message: Any, token: str | None = None, **headers: str) -> Answer:
        """Send a message; header names have underscores for hyphens."""
        given = JSON | {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        return self.request("POST", f"/v1/{route}", json.dumps(message).encode(), given)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        self.out, self.err = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def connect(server: RunningServer) -> socket.socket:
    """Return a raw connection to the Unix socket of a server."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE_SECONDS)
    client.connect(str(server.socket))
    return client


def status_of(server: RunningServer, sent: bytes) -> int:
    """Send a request; return the status of its response, without reading the rest."""
    with connect(server) as client:
        client.sendall(sent)
        return int(client.recv(100).split()[1])


def create_home(root: Path) -> ServerFixture:
    """Return a home with users that no process holds open."""
    residence = ServerFixture(root, template=_template())
    residence.close()
    return residence


@cache
def _template() -> Path:
    """Return a company of which every test gets a copy."""
    root = Path(mkdtemp(prefix="popug-template-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    ServerFixture(root / "home").close()
    return root / "home"


def eventually(condition: Any) -> None:
    """Wait until a condition is true."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, "it never came to hold"
        time.sleep(0.05)

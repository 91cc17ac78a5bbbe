"""A company as five services and a gateway, each a process, linked over topics in files."""

import atexit
import json
import os
import signal
import time
from collections.abc import Collection, Mapping
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any

from popug_cli.app import LocalBackend
from popug_cli.client.address import Address
from popug_cli.client.http import ServerConnection
from popug_cli.cluster.service_homes import create_service_homes
from popug_cli.kernel.home import Home
from popug_cli.messages.services import SERVICES
from tests.support.cluster.zygote import Order, Zygote, end, inherited_environment, is_alive
from tests.support.running_server import JSON, Answer, UnixConnection

START_SECONDS = 180
GATEWAY = "gateway"


@cache
def zygote() -> Zygote:
    """Return the process from which this one has all services forked."""
    started = Zygote()
    atexit.register(started.close)
    return started


class ServedCluster:
    """The services of the company in ``home``, below ``folder``; they are created from a copy of its database."""

    def __init__(
        self,
        folder: Path,
        home: Home | None,
        environment: Mapping[str, str] | None = None,
        clock_offset_seconds: float = 0.0,
    ) -> None:
        self.folder = folder
        self.homes = {service: Home(folder / service) for service in SERVICES}
        self.socket = folder / "g.sock"
        self.pids: dict[str, int] = {}
        self.environment = {**inherited_environment(), "HOME": str(folder), **(environment or {})}
        self.clock_offset_seconds = clock_offset_seconds
        if home is not None:
            with closing(LocalBackend(home)) as company:
                create_service_homes(company, folder)

    @property
    def log(self) -> Path:
        """The file with the output of all processes."""
        return self.folder / "log"

    def start(self, names: Collection[str] = (*SERVICES, GATEWAY)) -> None:
        """Start processes, by default all, and wait until they answer."""
        for name in names:
            options = ["--module", name, "--brokers", "none"]
            if name == GATEWAY:
                options = ["--gateway", "--socket", str(self.socket)]
            order = Order(
                arguments=["serve", *options, "--homes", str(self.folder), "--json"],
                environment=self.environment,
                log=str(self.log),
                folder=str(self.folder),
                topics=str(self.folder) if name != GATEWAY else "",
                clock_offset_seconds=self.clock_offset_seconds,
            )
            self.pids[name] = zygote().start(order)
        for name in names:
            self._wait_for(self.pids[name], self.socket if name == GATEWAY else self.homes[name].socket)

    def kill(self, *names: str) -> None:
        """Kill processes."""
        killed = [self.pids.pop(name) for name in names]
        for pid in killed:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        end(killed)

    def end(self) -> None:
        """End all processes."""
        end([*self.pids.values()])
        self.pids.clear()

    def post(self, route: str, message: Any, token: str | None = None, **headers: str) -> Answer:
        """Send a message to the gateway; header names have underscores for hyphens."""
        given = JSON | {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        return self.request("POST", f"/v1/{route}", json.dumps(message).encode(), given)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send a request to the gateway."""
        with closing(UnixConnection(self.socket)) as connection:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            lower = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, lower, response.read())

    def _wait_for(self, pid: int, socket: Path) -> None:
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                ServerConnection(Address(path=str(socket))).close()
            except OSError:
                assert is_alive(pid), self.log.read_text()
                assert time.monotonic() < until, self.log.read_text()
                time.sleep(0.02)
            else:
                return

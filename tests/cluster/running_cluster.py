"""The processes of a company's cluster: five services and a gateway, on databases and brokers that run already."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

from popug_cli.kernel.home import Home
from popug_cli.messages.services import SERVICES

Found = TypeVar("Found")
GATEWAY, ANY_PORT = "gateway", "127.0.0.1:0"
START_SECONDS = 60.0
END_SECONDS = 30.0
CHEAP_HASHES = {"POPUG_IDENTITY_ARGON2_TIME_COST": "1", "POPUG_IDENTITY_ARGON2_MEMORY_KIB": "8192"}
PROGRAM = (sys.executable, "-m", "popug_cli")


class ServerProcess:
    """One `popug serve` of a cluster."""

    def __init__(
        self,
        name: str,
        options: tuple[str, ...],
        environment: Mapping[str, str],
        log: Path,
        program: tuple[str, ...] = PROGRAM,
    ) -> None:
        self.name = name
        self._line = (*program, "serve", *options, "--json")
        self._environment = dict(environment)
        self._log = log
        self.process: subprocess.Popen[str] | None = None
        self.urls: list[str] = []

    def begin(self) -> None:
        """Start the process, without waiting until it listens."""
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                self._line,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def wait(self) -> None:
        """Wait until it listens, and keep its addresses."""
        assert self.process is not None
        assert self.process.stdout is not None
        output: IO[str] = self.process.stdout
        while line := output.readline():
            document: dict[str, Any] = json.loads(line)
            if document.get("event") == "listening":
                self.urls = document["urls"]
                self._keep_port()
                return
        self.process.wait(END_SECONDS)
        raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.log_text()}")

    def _keep_port(self) -> None:
        """Let the process listen on the same port when it is started again."""
        address = next((url for url in self.urls if url.startswith("http://")), "").removeprefix("http://")
        self._line = tuple(address if word == ANY_PORT else word for word in self._line)

    @property
    def is_running(self) -> bool:
        """Return whether the process is alive."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Return its process id, or 0 if it was not started."""
        return self.process.pid if self.process else 0

    def send(self, number: int) -> None:
        """Send a signal to the process."""
        os.kill(self.pid, number)

    def end(self, number: int = signal.SIGTERM) -> int:
        """End the process and return its exit status."""
        process, self.process = self.process, None
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(END_SECONDS)
        finally:
            process.kill()
            process.communicate()
        return process.returncode

    def log_text(self) -> str:
        """Return what it has logged."""
        return self._log.read_text(errors="replace")


class RunningCluster:
    """Five services and a gateway of one company.

    ``homes`` has the home of each service. The tables are on the PostgreSQL server ``database``, a URL without the name
    of a database, or in the homes if it is empty. ``environment`` is added to that of each process.
    """

    def __init__(
        self,
        homes: Path,
        brokers: str,
        *,
        database: str = "",
        prefix: str = "popug",
        listen: str = ANY_PORT,
        environment: Mapping[str, str] | None = None,
        scheduler: bool = False,
    ) -> None:
        self.homes = homes
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(homes),
            "POPUG_HOME": str(homes / "operator"),
            "POPUG_BROKERS": brokers,
            "POPUG_CLUSTER_PREFIX": prefix,
            "POPUG_CLUSTER_HOMES": str(homes),
            **{name: text for name, text in os.environ.items() if name.startswith("COVERAGE_")},
            **({"POPUG_DATABASE": database} if database else {}),
            **CHEAP_HASHES,
            **(environment or {}),
        }
        options: dict[str, tuple[str, ...]] = {service: ("--module", service) for service in SERVICES}
        if scheduler:
            options["billing"] += ("--scheduler",)
        self.processes = {
            **{service: self._process(service, *own) for service, own in options.items()},
            GATEWAY: self._process(GATEWAY, "--gateway", "--listen", listen),
        }

    def start(self) -> "RunningCluster":
        """Start all processes, and wait until they listen."""
        try:
            for process in self.processes.values():
                process.begin()
            for process in self.processes.values():
                process.wait()
        except BaseException:
            self.close()
            raise
        return self

    @property
    def url(self) -> str:
        """Return the address of the gateway."""
        return next(url for url in self.processes[GATEWAY].urls if url.startswith("http"))

    def log_in(self, username: str, password: str) -> str:
        """Return a new token of a user."""
        done = self.run("login", username, "--password-stdin", "--print-token", text=f"{password}\n", as_json=False)
        assert done.returncode == 0, done
        return done.stdout.strip()

    def run(
        self, *words: str, token: str = "", text: str = "", as_json: bool = True, server: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of a client against the gateway, or against another ``server``."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.homes),
            "POPUG_HOME": str(self.homes / "client"),
            "POPUG_SERVER": server or self.url,
            **({"POPUG_TOKEN": token} if token else {}),
        }
        line = [*PROGRAM, *words, *(["--json"] if as_json else [])]
        return subprocess.run(
            line, env=environment, input=text, capture_output=True, text=True, check=False, timeout=120
        )

    def ask(self, *words: str, token: str = "", text: str = "") -> Any:
        """Return the answer of a command that must succeed."""
        done = self.run(*words, token=token, text=text)
        assert done.returncode == 0, (words, done)
        return json.loads(done.stdout)

    def operate(self, *words: str, text: str = "", environment: Mapping[str, str] | None = None) -> Any:
        """Return the answer of an operator's command, which must succeed."""
        done = subprocess.run(
            [*PROGRAM, *words, "--json"],
            env=dict(environment or self.environment),
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, (words, done)
        return json.loads(done.stdout)

    def another(self, service: str) -> ServerProcess:
        """Start a second process of a service, with a home of its own, and wait until it listens."""
        homes = self.homes / "second"
        (homes / service).mkdir(parents=True)
        environment = self.environment | {"POPUG_CLUSTER_HOMES": str(homes)}
        environment["POPUG_SERVICES"] = ",".join(f"{name}=unix://{Home(self.homes / name).socket}" for name in SERVICES)
        options = ("--module", service, "--listen", ANY_PORT)
        process = ServerProcess(service, options, environment, homes / f"{service}.log")
        self.processes[f"second {service}"] = process
        process.begin()
        process.wait()
        return process

    def close(self) -> None:
        """End all processes."""
        for process in self.processes.values():
            if process.is_running:
                process.send(signal.SIGTERM)
                process.send(signal.SIGCONT)
        for process in self.processes.values():
            process.end()

    def __enter__(self) -> "RunningCluster":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _process(self, name: str, *options: str) -> ServerProcess:
        return ServerProcess(name, options, self.environment, self.homes / f"{name}.log")


def wait_until(read: Callable[[], Found | None], seconds: float = 30.0) -> Found:
    """Return the first true value that a function returns; fail after some seconds."""
    deadline = time.monotonic() + seconds
    while not (found := read()):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)
    return found

"""A cluster for trials on this machine: PostgreSQL with a standby, three brokers, five services and a gateway.

A process that has died is started again after ``RESTART_SECONDS``, as systemd would do.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from popug_cli.messages.services import SERVICES
from tests.cluster.brokers import Broker, Brokers
from tests.cluster.running_cluster import GATEWAY, RunningCluster, ServerProcess
from tests.support.postgres.replicated import STANDBY, ServerPair
from tests.support.postgres.server import HOST, OWNER, PostgresServer

RESTART_SECONDS = 3.0
POLL_SECONDS = 0.2
ADMIN, PASSWORD = "ada", "seven-cages-under-9-moons"


class Part(NamedTuple):
    """A process of the cluster: its id, whether it runs, and how it is started again."""

    pid: Callable[[], int]
    is_running: Callable[[], bool]
    restart: Callable[[], None]


class TrialCluster:
    """All servers of a cluster, in a folder."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self.brokers = stack.enter_context(Brokers())
        self.servers = stack.enter_context(ServerPair())
        self.cluster = RunningCluster(folder / "services", self.brokers.address(), database=self._database_url())
        self._create_company()
        stack.callback(self.cluster.close)
        self.cluster.start()
        self.admin_token = self.cluster.log_in(ADMIN, PASSWORD)
        self.parts = self._parts()

    def document(self) -> dict[str, Any]:
        """Return what a user needs to use and to break the cluster."""
        return {
            "gateway": self.cluster.url,
            "admin_token": self.admin_token,
            "brokers": self.brokers.address(),
            "database": self._database_url(),
            "homes": str(self.cluster.homes),
            "databases": {service: f"{self._database_url()}/popug_{service}" for service in SERVICES},
            "pids": {name: part.pid() for name, part in self.parts.items()},
        }

    def supervise(self, report: Callable[[dict[str, Any]], None]) -> None:
        """Start what has died again, and report each time; never return."""
        died_at: dict[str, float] = {}
        while True:
            time.sleep(POLL_SECONDS)
            for name, part in self.parts.items():
                if part.is_running():
                    died_at.pop(name, None)
                elif time.monotonic() - died_at.setdefault(name, time.monotonic()) > RESTART_SECONDS:
                    part.restart()
                    report(self.document())

    def _database_url(self) -> str:
        hosts = ",".join(f"{HOST}:{server.port}" for server in (self.servers.primary, self.servers.standby))
        return f"postgresql://{OWNER}@{hosts}"

    def _create_company(self) -> None:
        self.servers.primary.create_role(OWNER, "LOGIN CREATEDB")
        self.servers.primary.wait_for_standbys(STANDBY)
        company = str(self._folder / "company")
        self.cluster.homes.mkdir(parents=True, exist_ok=True)
        self._operate("init", "--home", company, "--admin", ADMIN, "--email", "ada@popug.example",
                      "--time-zone", "UTC", "--password-stdin", text=f"{PASSWORD}\n")  # fmt: skip
        self._operate("cluster", "init", "--from", company)

    def _operate(self, *words: str, text: str = "") -> None:
        environment = dict(self.cluster.environment)
        if words[0] == "init":
            environment.pop("POPUG_DATABASE")
        self.cluster.operate(*words, text=text, environment=environment)

    def _parts(self) -> Mapping[str, Part]:
        order = (GATEWAY, *SERVICES)
        parts = {name: _part_of_server(self.cluster.processes[name]) for name in order}
        parts |= {f"broker-{broker.number}": _part_of_broker(broker) for broker in self.brokers.brokers}
        parts["postgres-primary"] = _part_of_database(self.servers.primary)
        parts["postgres-standby"] = _part_of_database(self.servers.standby)
        return parts


def run(folder: Path, report: Callable[[dict[str, Any]], None]) -> None:
    """Start a cluster, report it, and again after each restart; run until a signal ends the process."""
    with ExitStack() as stack:
        cluster = TrialCluster(folder, stack)
        report(cluster.document())
        cluster.supervise(report)


def _part_of_server(server: ServerProcess) -> Part:
    def restart() -> None:
        server.begin()
        server.wait()

    return Part(lambda: server.pid, lambda: server.is_running, restart)


def _part_of_broker(broker: Broker) -> Part:
    return Part(lambda: broker.process.pid if broker.process else 0, lambda: broker.is_running, broker.start)


def _part_of_database(server: PostgresServer) -> Part:
    return Part(
        lambda: server.process.pid if server.process else 0,
        lambda: server.is_running,
        lambda: (server.start(), None)[1],
    )

"""A cluster on PostgreSQL with a standby and on Kafka: whatever is killed, no acknowledged command is lost."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from popug_cli.messages.services import SERVICES
from tests.cluster.kafka_programs import require_kafka
from tests.cluster.running_cluster import GATEWAY, RunningCluster, wait_until
from tests.cluster.shared_brokers import RunningBrokers
from tests.support.postgres.programs import require_postgres
from tests.support.postgres.replicated import STANDBY, ServerPair
from tests.support.postgres.server import HOST, OWNER

require_kafka()
require_postgres()

PASSWORD = "seven-cages-under-9-moons"
TAKEOVER_SECONDS = 10.0  # a killed leader is replaced within 1 s on an idle machine
STOPPED_TAKEOVER_SECONDS = 40.0  # within 12 s


class ServerCluster:
    """A cluster of the admin ada and the workers kesha and gosha, on two PostgreSQL servers."""

    def __init__(self, folder: Path, brokers: RunningBrokers, prefix: str, stack: ExitStack) -> None:
        self.servers = stack.enter_context(ServerPair())
        self.servers.primary.create_role(OWNER, "LOGIN CREATEDB")
        hosts = ",".join(f"{HOST}:{server.port}" for server in (self.servers.primary, self.servers.standby))
        self.cluster = RunningCluster(
            folder / "s", brokers.address, database=f"postgresql://{OWNER}@{hosts}", prefix=prefix.replace("-", "_")
        )
        self.cluster.homes.mkdir()
        company = str(folder / "company")
        own = {name: text for name, text in self.cluster.environment.items() if name != "POPUG_DATABASE"}
        words = ("--admin", "ada", "--email", "ada@example.com", "--time-zone", "UTC", "--password-stdin")
        self.cluster.operate("init", "--home", company, *words, text=f"{PASSWORD}\n", environment=own)
        self.cluster.operate("cluster", "init", "--from", company)
        self.servers.primary.wait_for_standbys(STANDBY)
        stack.callback(self.cluster.close)
        self.cluster.start()
        self.token = self.cluster.log_in("ada", PASSWORD)
        for name in ("kesha", "gosha"):
            self.ask("user", "add", name, "--email", f"{name}@example.com", "--role", "worker", "--password-stdin")
        self.added = 0

    def ask(self, *words: str) -> Any:
        return self.cluster.ask(*words, token=self.token, text=f"{PASSWORD}\n")

    def add_task(self, server: str = "") -> None:
        """Add a task by a command that may have to be repeated."""
        self.added += 1
        words = ("task", "add", f"Task {self.added}")
        wait_until(lambda: self.cluster.run(*words, token=self.token, server=server).returncode == 0, 90.0)

    def are_all_priced(self) -> bool:
        """Return whether every task has the price that billing has drawn, so all events have come through."""
        page = self.ask("tasks", "list", "--all", "--limit", "1000")
        assert page["total"] >= self.added
        return all(task["fee_cents"] is not None for task in page["tasks"])


@pytest.fixture
def cluster(breakable_brokers: RunningBrokers, prefix: str, tmp_path: Path) -> Iterator[ServerCluster]:
    with ExitStack() as stack:
        yield ServerCluster(tmp_path, breakable_brokers, prefix, stack)


def test_cluster_goes_on_after_every_kill(cluster: ServerCluster, breakable_brokers: RunningBrokers) -> None:
    cluster.add_task()
    for name in (*SERVICES, GATEWAY):
        process = cluster.cluster.processes[name]
        process.end(signal.SIGKILL)
        process.begin()
        process.wait()
        cluster.add_task()
    for number in (1, 2, 3):
        breakable_brokers.kill(number)
        cluster.add_task()
        breakable_brokers.start(number)
        breakable_brokers.wait_until_registered()
    wait_until(cluster.are_all_priced)
    cluster.servers.primary.kill()
    cluster.servers.standby.wait_for_standbys()
    cluster.servers.standby.promote()
    cluster.add_task()
    wait_until(cluster.are_all_priced)
    assert cluster.ask("close-day", "--yes")["days"][0]["fees_cents"] > 0
    report = cluster.cluster.operate("cluster", "status")
    assert report["is_intact"]
    assert {host["role"] for host in report["databases"]} == {"primary", "unreachable"}


def test_second_process_of_a_service_takes_over(cluster: ServerCluster) -> None:
    first = cluster.cluster.processes["tasks"]
    second = cluster.cluster.another("tasks")
    cluster.add_task()
    began = time.monotonic()
    first.end(signal.SIGKILL)
    wait_until(lambda: "is the leader of tasks" in second.log_text())
    assert time.monotonic() - began < TAKEOVER_SECONDS
    cluster.add_task(next(url for url in second.urls if url.startswith("http")))
    first.begin()
    first.wait()
    began = time.monotonic()
    second.send(signal.SIGSTOP)
    wait_until(lambda: first.log_text().count("is the leader of tasks") == 2, STOPPED_TAKEOVER_SECONDS)
    cluster.add_task()
    wait_until(cluster.are_all_priced)
    second.send(signal.SIGCONT)
    wait_until(lambda: "is not the leader of tasks any more" in second.log_text())
    cluster.add_task()
    wait_until(cluster.are_all_priced)

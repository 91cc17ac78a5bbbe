"""The operator's commands on a cluster, with brokers and services in processes of their own."""

import json
import os
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from popug_cli.client.address import Address
from popug_cli.client.remote_backend import RemoteBackend
from popug_cli.kernel.home import Home
from popug_cli.messages.identity import LogIn
from popug_cli.messages.services import SERVICES
from popug_cli.messages.tasks import AddTask, ListTasks
from tests.cluster.kafka_programs import require_kafka
from tests.cluster.running_cluster import GATEWAY, RunningCluster, wait_until
from tests.cluster.shared_brokers import RunningBrokers
from tests.support.company import PASSWORD
from tests.support.running_server import create_home

require_kafka()

UNREACHABLE = "127.0.0.1:9"


class Operator:
    """Runs the operator's commands on the homes of one cluster, and its services."""

    def __init__(self, directory: Path, brokers: str, prefix: str) -> None:
        self.directory, self.brokers, self.prefix = directory, brokers, prefix
        self.homes = directory / "s"
        self.home = create_home(directory / "company").home.root

    def run(self, *words: str, brokers: str = "") -> "subprocess.CompletedProcess[str]":
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "POPUG_HOME": str(self.directory / "operator"),
            "POPUG_BROKERS": brokers or self.brokers,
            "POPUG_CLUSTER_PREFIX": self.prefix,
            "POPUG_CLUSTER_HOMES": str(self.homes),
        }
        line = [sys.executable, "-m", "popug_cli", *words, "--json"]
        return subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=240)

    def ask(self, *words: str) -> Any:
        done = self.run(*words)
        assert done.returncode == 0, (words, done)
        return json.loads(done.stdout)

    def started(self) -> RunningCluster:
        cluster = RunningCluster(self.homes, self.brokers, prefix=self.prefix)
        cluster.processes.pop(GATEWAY)
        return cluster

    def client(self, service: str) -> "closing[RemoteBackend]":
        return closing(RemoteBackend(Address(path=str(Home(self.homes / service).socket))))

    def token(self) -> str:
        with self.client("identity") as identity:
            return identity.perform(LogIn(username="ada", password=PASSWORD)).token

    def titles(self, service: str = "tasks") -> list[str]:
        with self.client(service) as tasks:
            return [task.title for task in tasks.perform(ListTasks(), self.token()).tasks]


@pytest.fixture
def operator(brokers: RunningBrokers, prefix: str, tmp_path: Path) -> Operator:
    return Operator(tmp_path, brokers.address, prefix)


def test_home_becomes_a_cluster_that_is_backed_up_and_restored(operator: Operator) -> None:
    created = operator.ask("cluster", "init", "--from", str(operator.home), "--gateway", "https://popug.example.com")
    assert [place["topic"] for place in created["services"]] == [f"{operator.prefix}.{name}" for name in SERVICES]
    refused = operator.run("tasks", "list", "--home", str(operator.home))
    assert refused.returncode == 8
    assert json.loads(refused.stderr)["error"]["code"] == "moved"
    assert operator.run("serve", "--home", str(operator.home)).returncode == 8
    assert operator.run("scheduler", "--once", "--home", str(operator.home)).returncode == 8

    backup = operator.directory / "backup"
    with operator.started(), operator.client("tasks") as tasks:
        token, stopping = operator.token(), threading.Event()

        def work() -> None:
            for number in range(500):
                if stopping.is_set():
                    return
                tasks.perform(AddTask(title=f"Task {number}"), token)

        worker = threading.Thread(target=work)
        worker.start()
        try:
            answer = operator.ask("cluster", "backup", str(backup))
        finally:
            stopping.set()
            worker.join()
        assert answer["positions"]["tasks"] > 0
        added = operator.titles()
        assert wait_until(lambda: operator.run("cluster", "doctor").returncode == 0)
        assert operator.ask("cluster", "republish", "tasks", "--from", "1")["events"] > 0
    assert operator.ask("cluster", "doctor", str(backup))["ok"]

    operator.homes = operator.directory / "restored"
    restored = operator.ask("cluster", "restore", str(backup))
    assert restored["cluster"] != created["cluster"]
    with operator.started():
        kept = operator.titles()
        assert kept
        assert set(kept) <= set(added)
        with operator.client("tasks") as tasks:
            tasks.perform(AddTask(title="New life"), operator.token())
        assert wait_until(lambda: operator.run("cluster", "doctor").returncode == 0)


def test_init_without_brokers_changes_nothing(tmp_path: Path, prefix: str) -> None:
    operator = Operator(tmp_path, UNREACHABLE, prefix)
    refused = operator.run("cluster", "init", "--from", str(operator.home))
    assert refused.returncode == 8
    assert json.loads(refused.stderr)["error"]["code"] == "brokers_unavailable"
    assert not operator.homes.exists()
    assert operator.run("doctor", "--home", str(operator.home)).returncode == 0

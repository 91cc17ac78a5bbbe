"""The commands of `.github/CLUSTER.md` run in a cluster, in the order of the page."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.kafka_programs import require_kafka
from tests.cluster.running_cluster import RunningCluster
from tests.cluster.shared_brokers import RunningBrokers
from tests.generate import readme

require_kafka()

LIMIT_SECONDS = 120
PASSWORD = "seven-cages-under-9-moons"
BLOCKS = [
    block for block in readme.blocks(readme.CLUSTER.read_text(encoding="utf-8")) if block.note == readme.IN_THE_CLUSTER
]


@pytest.fixture
def cluster(brokers: RunningBrokers, prefix: str, tmp_path: Path) -> Iterator[RunningCluster]:
    """The cluster of a company that has only the admin ada; its tables are in files."""
    cluster = RunningCluster(tmp_path / "services", brokers.address, prefix=prefix)
    cluster.homes.mkdir()
    company = str(tmp_path / "company")
    words = ("--admin", "ada", "--email", "ada@example.com", "--time-zone", "UTC", "--password-stdin")
    cluster.operate("init", "--home", company, *words, text=f"{PASSWORD}\n")
    cluster.operate("cluster", "init", "--from", company)
    try:
        yield cluster.start()
    finally:
        cluster.close()


def test_commands_of_the_guide_run(cluster: RunningCluster, tmp_path: Path) -> None:
    assert len(BLOCKS) >= 5
    program = tmp_path / "bin" / "popug"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m popug_cli "$@"\n')
    program.chmod(0o755)
    environment = cluster.environment | {
        "PATH": os.pathsep.join([str(program.parent), "/usr/bin", "/bin"]),
        "POPUG_SERVER": cluster.url,
        "POPUG_TOKEN": cluster.log_in("ada", PASSWORD),
    }
    for block in BLOCKS:
        done = subprocess.run(
            ["sh", "-eu", "-c", block.text],
            env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=LIMIT_SECONDS,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), (block.line, done)

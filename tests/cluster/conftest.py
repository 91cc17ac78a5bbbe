"""The brokers of this run of the tests, which all its processes share, and topics for one test."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from popug_cli.kernel.settings import Settings, load_settings
from tests.cluster.kafka_programs import require_kafka
from tests.cluster.shared_brokers import RunningBrokers, shared_brokers, turn


@pytest.fixture(scope="session")
def running_brokers(tmp_path_factory: pytest.TempPathFactory) -> RunningBrokers:
    """The three brokers; a test asks for ``brokers`` or ``breakable_brokers`` instead."""
    require_kafka()
    folder = tmp_path_factory.getbasetemp()
    return shared_brokers((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "kafka")


@pytest.fixture
def brokers(running_brokers: RunningBrokers) -> Iterator[RunningBrokers]:
    """Three brokers that stay up during the test."""
    with turn(running_brokers.folder, alone=False):
        yield running_brokers


@pytest.fixture
def breakable_brokers(running_brokers: RunningBrokers) -> Iterator[RunningBrokers]:
    """Three brokers that the test may kill, stop or freeze; no other test uses them at that time."""
    with turn(running_brokers.folder, alone=True):
        try:
            yield running_brokers
        finally:
            running_brokers.restore()


@pytest.fixture
def prefix() -> str:
    """The first part of the names of topics of this test."""
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings of a home without any."""
    return load_settings(tmp_path / "config.toml", {})

"""A server with the replies of a test, for a client that does not wait long between its attempts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from popug_cli.client import http, remote_backend, requests
from tests.support.fake_server import FakeServer, Reply, Serve


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Start a server that gives these replies."""
    monkeypatch.setattr(remote_backend, "RETRY_DELAYS_SECONDS", (0.0, 0.01, 0.01))
    started: list[FakeServer] = []

    def start(*replies: Reply, health: Reply | None = None) -> FakeServer:
        started.append(FakeServer(tmp_path / f"{len(started)}.sock", replies, health=health))
        return started[-1]

    yield start
    for server in started:
        server.__exit__()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "RECV_TIMEOUT_SECONDS", 0.02)
    monkeypatch.setattr(http, "READ_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(remote_backend, "PROBE_AFTER_SECONDS", 0.1)
    monkeypatch.setattr(remote_backend, "HEALTH_TIMEOUT_SECONDS", 1.5)
    monkeypatch.setattr(requests, "ANSWER_TIMEOUT_SECONDS", 10.0)

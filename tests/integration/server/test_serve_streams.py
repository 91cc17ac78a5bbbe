"""Event streams: their queries, how many there may be, and their end when a client leaves or stops reading."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.running_server import RunningServer, connect, create_home, eventually, status_of
from tests.support.server_fixture import ServerFixture

FOLLOW = b"GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n\r\n"
MAX_STREAMS = 3
SHORT = f"""
from popug_cli.server import event_stream, request_limits
event_stream.MAX_STREAMS = {MAX_STREAMS}
request_limits.SEND_TIMEOUT_SECONDS = 0.5
"""


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> ServerFixture:
    return create_home(tmp_path_factory.mktemp("streams") / "home")


@pytest.fixture(scope="module")
def server(company: ServerFixture) -> Iterator[RunningServer]:
    with RunningServer(company.home.root, patch=SHORT) as found:
        yield found
        assert (found.end(), found.err) == (0, "")


@pytest.fixture
def served(server: RunningServer, company: ServerFixture) -> Iterator[RunningServer]:
    """Check that the server still serves other clients after each test."""
    yield server
    assert server.request("GET", "/readyz").status == 200
    assert server.post("tasks/add_task", {"title": "Still here"}, company.tokens["kesha"]).status == 200


def follow(served: RunningServer, company: ServerFixture) -> socket.socket:
    """Return a connection that has asked for the stream of events."""
    client = connect(served)
    client.sendall(FOLLOW % company.tokens["ada"].encode())
    return client


def test_event_streams_are_limited(served: RunningServer, company: ServerFixture) -> None:
    def received_by(client: socket.socket) -> str:
        found = b""
        while b"retry:" not in found and b"Too many" not in found:
            found += client.recv(65536)
        return "events" if b"retry:" in found else "a refusal"

    def try_to_follow() -> str:
        with follow(served, company) as client:
            return received_by(client)

    clients = [follow(served, company) for _ in range(10)]
    assert [received_by(client) for client in clients].count("events") == MAX_STREAMS
    for client in clients:
        client.close()
    eventually(lambda: try_to_follow() == "events")


def is_followed(served: RunningServer, company: ServerFixture) -> bool:
    return status_of(served, FOLLOW % company.tokens["ada"].encode()) == 200


def fill(served: RunningServer, company: ServerFixture) -> list[socket.socket]:
    """Return as many streams as there may be; wait until those of earlier tests have ended."""
    clients: list[socket.socket] = []

    def is_full() -> bool:
        client = follow(served, company)
        if client.recv(12) == b"HTTP/1.1 200":
            clients.append(client)
        else:
            client.close()
        return len(clients) == MAX_STREAMS

    eventually(is_full)
    return clients


def test_stream_ends_when_its_client_leaves(served: RunningServer, company: ServerFixture) -> None:
    clients = fill(served, company)
    assert not is_followed(served, company)
    began = time.monotonic()
    for client in clients:
        client.close()
    eventually(lambda: is_followed(served, company))
    assert time.monotonic() - began < 10, "a heartbeat, which would notice it, is sent after 15 s"


def test_stream_ends_when_its_client_stops_reading(served: RunningServer, company: ServerFixture) -> None:
    lines = [{"title": f"Task {number} {'x' * 80}"} for number in range(1_000)]
    served.post("tasks/import_tasks", {"lines": lines}, company.tokens["kesha"])
    clients = fill(served, company)
    eventually(lambda: is_followed(served, company))
    for client in clients:
        client.close()


def test_stream_that_runs_does_not_delay_the_end(tmp_path: Path) -> None:
    company = create_home(tmp_path / "home")
    with RunningServer(company.home.root) as served, connect(served) as client:
        client.sendall(FOLLOW % company.tokens["ada"].encode())
        assert client.recv(12) == b"HTTP/1.1 200"
        began = time.monotonic()
        assert (served.end(), served.err) == (0, "")
        assert time.monotonic() - began < 8, "the grace period of 10 s was awaited"


def test_client_leaving_an_event_stream_logs_nothing(served: RunningServer, company: ServerFixture) -> None:
    for number in range(10):
        served.post("tasks/add_task", {"title": f"Task {number}"}, company.tokens["kesha"])
    for _ in range(5):
        with follow(served, company) as client:
            client.recv(1)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("after=1", 200),
        ("after=%31", 200),
        ("type=&actor=%ff", 200),
        ("after=", 422),
        ("after", 422),
        ("after=-1", 422),
        ("after=true", 422),
        ("unknown=1", 422),
        ("=1", 422),
        ("after=1&after=x", 200),
        ("after=x&after=1", 422),
    ],
)
def test_event_query_is_checked(served: RunningServer, company: ServerFixture, query: str, status: int) -> None:
    asked = (FOLLOW % company.tokens["ada"].encode()).replace(b"/v1/events", f"/v1/events?{query}".encode())
    eventually(lambda: status_of(served, asked) == status)  # once the streams of earlier tests have ended

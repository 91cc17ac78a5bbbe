"""The parts of chaos runs that need no servers. The runs themselves: python -m tests.cluster.chaos"""

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytest.importorskip("psycopg")

from tests.cluster.chaos.bugs import BUGS, ChaosBug
from tests.cluster.chaos.clock import ShiftedClock
from tests.cluster.chaos.faults import FAULTS
from tests.cluster.chaos.proxy import CuttableProxy
from tests.cluster.chaos.results import Results
from tests.simulation.bugs import PROGRAM

MARGIN_SECONDS = 0.5


@pytest.fixture
def echo_port() -> Iterator[int]:
    """A server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=_echo, args=(connection,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def _echo(connection: socket.socket) -> None:
    with connection:
        while received := connection.recv(100):
            connection.sendall(received)


def _connected(proxy: CuttableProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=20)


def test_proxy_passes_bytes_on(echo_port: int) -> None:
    with CuttableProxy(lambda: [echo_port]) as proxy, _connected(proxy) as client:
        client.sendall(b"cage")
        assert client.recv(100) == b"cage"


def test_cut_connection_goes_on_after_heal(echo_port: int) -> None:
    with CuttableProxy(lambda: [echo_port]) as proxy, _connected(proxy) as client:
        client.sendall(b"1")
        assert client.recv(100) == b"1"
        proxy.cut()
        client.sendall(b"2")
        client.settimeout(MARGIN_SECONDS)
        with pytest.raises(TimeoutError):
            client.recv(100)
        proxy.heal(with_reset=False)
        client.settimeout(20)
        assert client.recv(100) == b"2"


def test_cut_connection_ends_at_heal_with_reset(echo_port: int) -> None:
    with CuttableProxy(lambda: [echo_port]) as proxy, _connected(proxy) as client:
        client.sendall(b"1")
        assert client.recv(100) == b"1"
        proxy.cut()
        proxy.heal(with_reset=True)
        assert client.recv(100) == b""


def test_proxy_tries_the_next_target(echo_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead_port = closed.getsockname()[1]
    with CuttableProxy(lambda: [dead_port, echo_port]) as proxy:
        for _ in range(4):
            with _connected(proxy) as client:
                client.sendall(b"cage")
                assert client.recv(100) == b"cage"


def test_clock_is_shared_by_its_file(tmp_path: Path) -> None:
    one, other = ShiftedClock(tmp_path / "clock"), ShiftedClock(tmp_path / "clock")
    one.set(0)
    one.advance()
    ahead = other.now() - datetime.now(UTC)
    assert timedelta(hours=23) < ahead < timedelta(hours=25)


def test_only_checked_faults_count_after_resume(tmp_path: Path) -> None:
    first = Results(tmp_path)
    for kind in ("failover", "kill broker"):
        first.add(1, {"event": "fault", "kind": kind})
    first.add(1, {"event": "round"})
    first.add(1, {"event": "fault", "kind": "kill broker"})
    resumed = Results(tmp_path)
    assert resumed.count() == 2
    assert resumed.count(only_checked=False) == 3
    assert resumed.has(1)
    assert not resumed.has(2)


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
def test_text_of_planted_bug_occurs_once(bug: ChaosBug) -> None:
    assert bug.changes or bug.is_asynchronous
    assert set(bug.faults) <= set(FAULTS)
    for change in bug.changes:
        assert (PROGRAM / change.file).read_text().count(change.old) == 1, change

"""Places of connections: by listening socket and by peer; idle connections make room for new ones."""

from typing import Any

import pytest

from popug_cli.server.peers import ConnectionBudget, Place, network_of

HOME = "/home/ada/popug.sock"


class FakeTransport:
    """A connection through a listening socket, as ``peer_of`` sees it."""

    def __init__(self, own: Any, peer: Any = None) -> None:
        self._known = {"sockname": own, "peername": peer, "socket": self}

    def get_extra_info(self, name: str) -> Any:
        return self._known[name]

    def getsockopt(self, *_: int) -> bytes:
        raise OSError


class Clients:
    """Clients of one budget, and the names of those that were evicted."""

    def __init__(self, max_connections: int) -> None:
        self.budget = ConnectionBudget(max_connections, HOME)
        self.evicted: list[str] = []

    def connect(self, name: str, address: str = "") -> Place | None:
        transport: Any = FakeTransport(("10.0.0.1", 8020), (address, 1)) if address else FakeTransport(HOME)
        return self.budget.acquire(transport, lambda: self.evicted.append(name))


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        ("unknown", "unknown"),
    ],
)
def test_peer_is_an_address_or_an_ipv6_network(address: str, network: str) -> None:
    assert network_of(address) == network


def test_oldest_idle_connection_of_the_peer_is_evicted() -> None:
    clients = Clients(max_connections=16)
    places = [clients.connect(f"a{number}", "10.0.0.7") for number in range(8)]
    assert clients.connect("other", "10.0.0.8")
    assert places[0]
    places[0].mark_busy()
    assert clients.connect("a8", "10.0.0.7")
    assert clients.evicted == ["a1"]


def test_connection_is_refused_if_none_is_idle() -> None:
    clients = Clients(max_connections=16)
    places = [clients.connect(f"a{number}", "10.0.0.7") for number in range(8)]
    for place in places:
        assert place
        place.mark_busy()
    assert clients.connect("a8", "10.0.0.7") is None
    assert clients.connect("other", "10.0.0.8")
    for _ in range(2):
        assert places[0]
        places[0].release()
    assert clients.connect("a9", "10.0.0.7")
    assert clients.connect("a10", "10.0.0.7")
    assert clients.evicted == ["a9"]


def test_peer_with_the_most_connections_makes_room() -> None:
    clients = Clients(max_connections=16)
    for number in range(3):
        clients.connect(f"few{number}", "10.0.0.7")
    for number in range(8):
        clients.connect(f"many{number}", "10.0.0.8")
    for number in range(5):
        clients.connect(f"some{number}", "10.0.0.9")
    assert clients.connect("new", "10.0.0.10")
    assert clients.evicted == ["many0"]


def test_home_socket_has_places_of_its_own() -> None:
    clients = Clients(max_connections=8)
    for number in range(20):
        clients.connect(f"a{number}", f"10.0.0.{number}")
    evicted = len(clients.evicted)
    for number in range(8):
        assert clients.connect(f"home{number}")
    assert len(clients.evicted) == evicted
    assert clients.connect("home8")
    assert clients.evicted[-1] == "home0"

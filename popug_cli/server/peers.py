"""Peers of connections, and how many connections each peer and each listening socket may have.

Without these budgets one client with a thousand idle connections would lock out all others.
"""

from asyncio import BaseTransport
from collections.abc import Callable, Collection
from ipaddress import IPv6Address, ip_address
from typing import Any, NamedTuple

from popug_cli.platform.peer import user_id_of_peer

PEER_KEY = "peer"
PEER_SHARE = 2  # a peer may have 1/PEER_SHARE of the connections of a listening socket
MIN_PEER_CONNECTIONS = 8
IPV6_SITE_BITS = 64  # the usual size of one customer's network, in which a client may choose its address


class Peer(NamedTuple):
    """The other end of a connection: the listening socket that it came through, and the address or user.

    `is_home` says that it came through the home's own socket, which only the home's owner can use.
    """

    listener: str
    name: str
    is_home: bool = False


UNKNOWN_PEER = Peer("", "unknown")


def peer_of(transport: BaseTransport, home_socket: str) -> Peer:
    """Return the peer of a connection; `home_socket` is the path of the home's own socket."""
    own_address = transport.get_extra_info("sockname")
    if isinstance(own_address, tuple):
        address = transport.get_extra_info("peername") or ("unknown",)
        return Peer(f"port {own_address[1]}", network_of(str(address[0])))
    listener = own_address.decode(errors="replace") if isinstance(own_address, bytes) else str(own_address)
    return Peer(listener, _user_of(transport.get_extra_info("socket")), listener == home_socket)


def network_of(address: str) -> str:
    """Return the address if it is IPv4, or the network of ``IPV6_SITE_BITS`` if it is IPv6."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    prefix = int(parsed) >> (128 - IPV6_SITE_BITS) << (128 - IPV6_SITE_BITS)
    return str(parsed) if parsed.is_loopback else f"{IPv6Address(prefix)}/{IPV6_SITE_BITS}"


def _user_of(connection: Any) -> str:
    try:
        return f"user {user_id_of_peer(connection)}"
    except OSError:
        return "unknown user"


class ConnectionBudget:
    """Limits connections. Each listening socket has `max_connections` places of its own.

    On a socket other than the home's, one peer may have 1/``PEER_SHARE`` of them. If there is no place for a new
    connection, an idle one is evicted: the oldest of the peer with the most connections.
    """

    def __init__(self, max_connections: int, home_socket: str = "") -> None:
        self._max_connections = max_connections
        self._max_peer_connections = max(max_connections // PEER_SHARE, MIN_PEER_CONNECTIONS)
        self._home_socket = home_socket
        self._place_counts: dict[Peer, int] = {}
        self._idle: dict[Peer, dict[Place, None]] = {}

    def acquire(self, transport: BaseTransport, evict: Callable[[], None]) -> "Place | None":
        """Return a place for a new, idle connection, or None if there is none.

        `evict` is called if the connection loses its place while it is idle.
        """
        peer = peer_of(transport, self._home_socket)
        if not self._make_room(peer):
            return None
        self._place_counts[peer] = self._place_counts.get(peer, 0) + 1
        place = Place(self, peer, evict)
        place.mark_idle()
        return place

    def mark_idle(self, place: "Place") -> None:
        """Record that the connection of a place may be evicted."""
        self._idle.setdefault(place.peer, {})[place] = None

    def mark_busy(self, place: "Place") -> None:
        """Record that the connection of a place must not be evicted."""
        idle = self._idle.get(place.peer, {})
        idle.pop(place, None)
        if not idle:
            self._idle.pop(place.peer, None)

    def release(self, place: "Place") -> None:
        """Free a place."""
        self.mark_busy(place)
        self._place_counts[place.peer] -= 1
        if not self._place_counts[place.peer]:
            del self._place_counts[place.peer]

    def _make_room(self, peer: Peer) -> bool:
        """Evict idle connections until there is a place for the peer; return False if that is not possible."""
        while not peer.is_home and self._place_counts.get(peer, 0) >= self._max_peer_connections:
            if not self._evict([peer]):
                return False
        while sum(count for other, count in self._place_counts.items() if other.listener == peer.listener) >= (
            self._max_connections
        ):
            if not self._evict([other for other in self._idle if other.listener == peer.listener]):
                return False
        return True

    def _evict(self, peers: Collection[Peer]) -> bool:
        """Evict the oldest idle connection of the peer with the most connections; return False if none is idle."""
        peers_with_idle = [peer for peer in peers if peer in self._idle]
        if not peers_with_idle:
            return False
        largest_peer = max(peers_with_idle, key=lambda peer: self._place_counts[peer])
        place = next(iter(self._idle[largest_peer]))
        place.release()
        place.evict()
        return True


class Place:
    """The place of one connection in the budget."""

    def __init__(self, budget: ConnectionBudget, peer: Peer, evict: Callable[[], None]) -> None:
        self.peer = peer
        self.evict = evict
        self._budget = budget
        self._is_released = False

    def mark_idle(self) -> None:
        """Allow the eviction of the connection: it waits for a request."""
        if not self._is_released:
            self._budget.mark_idle(self)

    def mark_busy(self) -> None:
        """Forbid the eviction of the connection: a request on it is being answered."""
        if not self._is_released:
            self._budget.mark_busy(self)

    def release(self) -> None:
        """Free the place, unless it has been freed already."""
        if not self._is_released:
            self._is_released = True
            self._budget.release(self)

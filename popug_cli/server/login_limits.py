"""Logins at the same time: a short queue of password checks, with a share for each peer and for each known device.

A password check takes long on purpose, so strangers could keep the hasher busy. A login that finds no place is refused
at once. A device that has logged in before has places and a hasher that strangers cannot use.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.kernel.errors import NotAuthenticated
from popug_cli.kernel.log import WarnOnce
from popug_cli.messages.identity import LogIn
from popug_cli.server.login_log import FailedLoginLog
from popug_cli.server.peers import Peer
from popug_cli.server.thread_pools import ThreadPools

Result = TypeVar("Result")

MAX_UNKNOWN_LOGINS = 16
MAX_PEER_LOGINS = 8
MAX_KNOWN_LOGINS = 16
MAX_DEVICE_LOGINS = 2
BUSY_WAIT_SECONDS = 1
MAX_REMEMBERED_PEERS = 100
NETWORK, HOME, KNOWN = "network", "home", "known"
MAX_LOGINS = {NETWORK: MAX_UNKNOWN_LOGINS, HOME: MAX_PEER_LOGINS, KNOWN: MAX_KNOWN_LOGINS}


class LoginLimits:
    """Performs logins of one company. The home's socket and known devices have places of their own."""

    def __init__(self, company: ServedCompany, pools: ThreadPools) -> None:
        self._company = company
        self._pools = pools
        self._by_group: Counter[str] = Counter()
        self._by_owner: Counter[str] = Counter()
        self._warn = WarnOnce(MAX_REMEMBERED_PEERS)
        self._failures = FailedLoginLog()

    async def perform(self, message: LogIn, peer: Peer, log_in: Callable[[], Result]) -> Result:
        """Call `log_in` in the hasher of its device, and log a failure.

        Raise its error, or ``too_many_attempts`` at once if too many logins wait.
        """
        device_id = None
        if message.device_token is not None:
            device_id = await self._pools.run(None, partial(self._company.known_device, message))
        with self._place(peer, device_id):
            return await self._pools.run_login(partial(self._log_failure, message, peer, log_in), device_id is not None)

    @contextmanager
    def _place(self, peer: Peer, device_id: str | None) -> Iterator[None]:
        """Hold a place of the device or of the peer."""
        group = KNOWN if device_id is not None else HOME if peer.is_home else NETWORK
        owner = f"device {device_id}" if device_id is not None else f"peer {peer.listener} {peer.name}"
        max_owned = MAX_PEER_LOGINS if device_id is None else MAX_DEVICE_LOGINS
        if self._by_group[group] >= MAX_LOGINS[group] or self._by_owner[owner] >= max_owned:
            self._warn(f"Too many logins at once from {peer.name}; some are refused.")
            raise _too_many_logins()
        self._by_group[group] += 1
        self._by_owner[owner] += 1
        try:
            yield
        finally:
            self._by_group[group] -= 1
            self._by_owner[owner] -= 1
            if not self._by_owner[owner]:
                del self._by_owner[owner]

    def _log_failure(self, message: LogIn, peer: Peer, log_in: Callable[[], Result]) -> Result:
        """Call `log_in`; log a wrong password, and the lockout that it causes."""
        try:
            return log_in()
        except NotAuthenticated as error:
            if error.code == "bad_credentials":
                username = self._company.username_of(message)
                self._failures.record(username, peer.name, error.details.get("wait_seconds", 0))
            raise


def _too_many_logins() -> NotAuthenticated:
    return NotAuthenticated(
        "too_many_attempts",
        "Too many logins are made at the same time; this one was not tried.",
        hint=f"Try again in {BUSY_WAIT_SECONDS} s.",
        details={"wait_seconds": BUSY_WAIT_SECONDS},
    )

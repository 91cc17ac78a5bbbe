"""Limits on simultaneous logins: a short queue of password checks, with a share for each peer and for known devices.

A password check takes long on purpose, so strangers could keep the hasher busy. A login that finds no free place is
refused at once; a peer that keeps trying waits for the refusal. A device that has logged in before has places and a
hasher that strangers cannot use.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import TypeVar

from popug_cli.kernel.errors import NotAuthenticated
from popug_cli.kernel.log import WarnOnce
from popug_cli.messages.identity import LogIn
from popug_cli.server.login_log import FailedLoginLog
from popug_cli.server.peers import Peer
from popug_cli.server.served import Served
from popug_cli.server.thread_pools import ThreadPools

Result = TypeVar("Result")

BUSY_WAIT_SECONDS = 1
MAX_QUICK_REFUSALS = 50  # of one peer in a second
MAX_REMEMBERED_PEERS = 100
NETWORK, HOME, KNOWN = "network", "home", "known"
MAX_LOGINS = {NETWORK: 16, HOME: 50}
MAX_LOGINS_PER_OWNER = {NETWORK: 8, HOME: 50, KNOWN: 4}  # of one peer, or of the known devices of one user


class LoginLimits:
    """Performs logins of one company. The home's socket and known devices have places of their own."""

    def __init__(self, company: Served, pools: ThreadPools) -> None:
        self._company = company
        self._pools = pools
        self._by_group: Counter[str] = Counter()
        self._by_owner: Counter[str] = Counter()
        self._owner_locks: dict[str, asyncio.Lock] = {}
        self._warn = WarnOnce(MAX_REMEMBERED_PEERS)
        self._failures = FailedLoginLog()
        self._refusals: Counter[Peer] = Counter()
        self._second_ends_at = 0.0

    async def perform(self, message: LogIn, peer: Peer, log_in: Callable[[], Result]) -> Result:
        """Call `log_in` in the hasher of its device, and log a failure.

        Raise its error, or ``too_many_attempts`` at once if too many logins wait.
        """
        user = None
        if message.device_token is not None:
            user = await self._pools.run(None, partial(self._company.user_of_known_device, message))
        if not self._has_place(peer, user):
            await self._slow_down(peer)
            raise _too_many_logins()
        with self._place(peer, user) as owner_lock:
            async with owner_lock:
                return await self._pools.run_login(partial(self._log_failure, message, peer, log_in), user is not None)

    def _has_place(self, peer: Peer, user: str | None) -> bool:
        group, owner = _group_and_owner(peer, user)
        is_full = group in MAX_LOGINS and self._by_group[group] >= MAX_LOGINS[group]
        return not is_full and self._by_owner[owner] < MAX_LOGINS_PER_OWNER[group]

    @contextmanager
    def _place(self, peer: Peer, user: str | None) -> Iterator[asyncio.Lock]:
        """Hold a place of the user or of the peer. Yield its lock, with which one login at a time waits for the hasher.

        So a peer waits for at most one login of each other peer, however many logins those attempt.
        """
        group, owner = _group_and_owner(peer, user)
        self._by_group[group] += 1
        self._by_owner[owner] += 1
        try:
            yield self._owner_locks.setdefault(owner, asyncio.Lock())
        finally:
            self._by_group[group] -= 1
            self._by_owner[owner] -= 1
            if not self._by_owner[owner]:
                del self._by_owner[owner], self._owner_locks[owner]

    async def _slow_down(self, peer: Peer) -> None:
        """Wait if the peer was refused often in this second, so that its next attempts do not occupy the server."""
        now = monotonic()
        if now >= self._second_ends_at:
            self._refusals.clear()
            self._second_ends_at = now + 1
        self._refusals[peer] += 1
        if self._refusals[peer] > MAX_QUICK_REFUSALS:
            self._warn(f"Too many logins at once from {peer.name}; most are refused.")
            await asyncio.sleep(BUSY_WAIT_SECONDS)

    def _log_failure(self, message: LogIn, peer: Peer, log_in: Callable[[], Result]) -> Result:
        """Call `log_in`; log a wrong password, and the lockout that it causes."""
        try:
            return log_in()
        except NotAuthenticated as error:
            if error.code == "bad_credentials":
                username = self._company.username_of(message)
                self._failures.record(username, peer.name, error.details.get("wait_seconds", 0))
            raise


def _group_and_owner(peer: Peer, user: str | None) -> tuple[str, str]:
    """Return the group of logins that share places, and the owner, which may take only some of them.

    `user` is the user of a known device, or None. A user can make many devices known, so they share places.
    """
    if user is not None:
        return KNOWN, f"user {user}"
    return HOME if peer.is_home else NETWORK, f"{peer.listener} {peer.name}"


def _too_many_logins() -> NotAuthenticated:
    return NotAuthenticated(
        "too_many_attempts",
        "Too many logins are made at the same time; this one was not tried.",
        hint=f"Try again in {BUSY_WAIT_SECONDS} s.",
        details={"wait_seconds": BUSY_WAIT_SECONDS},
    )

"""Thread pools: for queries, for commands, for secret commands, most of which hash a password, for logins, for parts.

Logins of unknown devices have a hasher of their own, so that known devices and users with a token never wait for them.
Parts that other services of a cluster ask for have threads of their own, so that two services whose queries ask each
other never wait for each other's threads.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from popug_cli.messages.base import Declaration
from popug_cli.server import http_errors

Result = TypeVar("Result")
WRITERS = 8
READERS = 4
HASHERS = 1
UNKNOWN_DEVICE_HASHERS = 1
PART_THREADS = 4
BACKGROUND_THREADS = 6  # the thread that runs the consumers, the scheduler, and a service's relay and replicators
THREADS = WRITERS + READERS + HASHERS + UNKNOWN_DEVICE_HASHERS + PART_THREADS + BACKGROUND_THREADS
POLL_SECONDS = 0.05
QUEUE_TIMEOUT_SECONDS = 30.0
WORK_TIMEOUT_SECONDS = 3600.0


class ThreadPools:
    """Bounded thread pools; a function that waits too long for a thread is not run."""

    def __init__(self, writers: int = WRITERS, readers: int = READERS) -> None:
        self._writers = ThreadPoolExecutor(writers, "popug-write")
        self._readers = ThreadPoolExecutor(readers, "popug-read")
        self._hashers = ThreadPoolExecutor(HASHERS, "popug-hash")
        self._unknown_device_hashers = ThreadPoolExecutor(UNKNOWN_DEVICE_HASHERS, "popug-login")
        self._parts = ThreadPoolExecutor(PART_THREADS, "popug-part")
        self.pending_count = 0

    async def run(self, declaration: Declaration | None, function: Callable[[], Result]) -> Result:
        """Run `function` in the pool for its declaration (without one: for queries) and return the result.

        Raise its error, ``server_unavailable`` after ``QUEUE_TIMEOUT_SECONDS`` in the queue, or ``in_doubt`` after
        ``WORK_TIMEOUT_SECONDS``.
        """
        return await self._run(self._pool(declaration), function)

    async def run_login(self, function: Callable[[], Result], is_known_device: bool) -> Result:
        """Run a login in the hasher for known or for unknown devices and return the result; raise as ``run`` does."""
        return await self._run(self._hashers if is_known_device else self._unknown_device_hashers, function)

    async def run_part(self, function: Callable[[], Result]) -> Result:
        """Run a part for another service and return the result; raise as ``run`` does."""
        return await self._run(self._parts, function)

    async def _run(self, pool: ThreadPoolExecutor, function: Callable[[], Result]) -> Result:
        give_up_at = time.monotonic() + QUEUE_TIMEOUT_SECONDS

        def run_in_time() -> Result:
            if time.monotonic() > give_up_at:
                raise http_errors.busy()
            return function()

        future = asyncio.get_running_loop().run_in_executor(pool, run_in_time)
        self.pending_count += 1
        future.add_done_callback(self._on_done)
        try:
            async with asyncio.timeout(WORK_TIMEOUT_SECONDS):
                return await asyncio.shield(future)
        except TimeoutError:
            raise http_errors.in_doubt(WORK_TIMEOUT_SECONDS) from None

    async def drain(self, seconds: float) -> bool:
        """Cancel queued work and wait up to `seconds` for running work; return whether all of it is done."""
        for pool in (self._writers, self._readers, self._hashers, self._unknown_device_hashers, self._parts):
            pool.shutdown(wait=False, cancel_futures=True)
        give_up_at = time.monotonic() + seconds
        while self.pending_count and time.monotonic() < give_up_at:
            await asyncio.sleep(POLL_SECONDS)
        return not self.pending_count

    def _on_done(self, future: "asyncio.Future[Result]") -> None:
        self.pending_count -= 1
        if not future.cancelled():
            future.exception()

    def _pool(self, declaration: Declaration | None) -> ThreadPoolExecutor:
        if declaration is None or not declaration.is_command:
            return self._readers
        return self._hashers if declaration.is_secret else self._writers

"""Thread pools: for commands, which wait for the write lock anyway, for queries, and for password hashing."""

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
BACKGROUND = 2  # the thread that runs the consumers, and the scheduler
THREADS = WRITERS + READERS + HASHERS + BACKGROUND
POLL_SECONDS = 0.05
QUEUE_TIMEOUT_SECONDS = 30.0
WORK_TIMEOUT_SECONDS = 3600.0


class ThreadPools:
    """Bounded thread pools; work that waits too long for a thread is refused."""

    def __init__(self) -> None:
        self._writers = ThreadPoolExecutor(WRITERS, "popug-write")
        self._readers = ThreadPoolExecutor(READERS, "popug-read")
        self._hashers = ThreadPoolExecutor(HASHERS, "popug-hash")
        self.pending = 0

    async def run(self, declaration: Declaration | None, work: Callable[[], Result]) -> Result:
        """Run `work` in the pool for its declaration and return the result.

        Raise its error, ``server_unavailable`` after ``QUEUE_TIMEOUT_SECONDS`` in the queue, or ``in_doubt`` after
        ``WORK_TIMEOUT_SECONDS``.
        """
        give_up_at = time.monotonic() + QUEUE_TIMEOUT_SECONDS

        def work_in_time() -> Result:
            if time.monotonic() > give_up_at:
                raise http_errors.busy()
            return work()

        future = asyncio.get_running_loop().run_in_executor(self._pool(declaration), work_in_time)
        self.pending += 1
        future.add_done_callback(self._done)
        try:
            async with asyncio.timeout(WORK_TIMEOUT_SECONDS):
                return await asyncio.shield(future)
        except TimeoutError:
            raise http_errors.in_doubt(WORK_TIMEOUT_SECONDS) from None

    async def drain(self, seconds: float) -> bool:
        """Cancel queued work and wait up to `seconds` for running work; return whether all of it is done."""
        for pool in (self._writers, self._readers, self._hashers):
            pool.shutdown(wait=False, cancel_futures=True)
        give_up_at = time.monotonic() + seconds
        while self.pending and time.monotonic() < give_up_at:
            await asyncio.sleep(POLL_SECONDS)
        return not self.pending

    def _done(self, future: "asyncio.Future[Result]") -> None:
        self.pending -= 1
        if not future.cancelled():
            future.exception()

    def _pool(self, declaration: Declaration | None) -> ThreadPoolExecutor:
        if declaration is None or not declaration.is_command:
            return self._readers
        return self._hashers if declaration.is_secret else self._writers

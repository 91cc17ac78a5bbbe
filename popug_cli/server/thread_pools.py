"""The threads that perform: some for commands, which queue for the write lock anyway, some for what only reads."""

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
BACKGROUND = 2  # who lets the consumers catch up, and the scheduler
THREADS = WRITERS + READERS + HASHERS + BACKGROUND
POLL_SECONDS = 0.05
QUEUE_TIMEOUT_SECONDS = 30.0
WORK_TIMEOUT_SECONDS = 3600.0


class ThreadPools:
    """Bounded pools of threads; what waits too long for one is refused undone."""

    def __init__(self) -> None:
        self._writers = ThreadPoolExecutor(WRITERS, "popug-write")
        self._readers = ThreadPoolExecutor(READERS, "popug-read")
        self._hashers = ThreadPoolExecutor(HASHERS, "popug-hash")
        self.pending = 0

    async def run(self, declaration: Declaration | None, work: Callable[[], Result]) -> Result:
        """Do some work in a thread of its kind; raises what it raises, ``server_unavailable`` or ``in_doubt``."""
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
        """Wait for what has begun; whether all of it is done in time. What waits for a thread is given up."""
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

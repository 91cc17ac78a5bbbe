"""Work that is done beside something else: on a thread of its own, one after the other, in the order it was given."""

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from concurrent.futures import Future

Work = Callable[[], None]


class Beside:
    """A thread for work that waits for the disk while others wait for the network.

    With ``thread=False`` all is done at once, by whoever asks for it.
    """

    def __init__(self, *, thread: bool) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._pool = ThreadPoolExecutor(max_workers=1) if thread else None
        self._open: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        """Nothing is begun yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let the thread end with the work that it was given."""
        if self._pool is not None:
            self._pool.shutdown()

    def start(self, work: Work) -> None:
        """Have some work done after what was given before."""
        if self._pool is None:
            work()
        else:
            self._open.append(self._pool.submit(work))

    def wait(self) -> None:
        """Wait until all work is done; raises what the first that failed raised."""
        while self._open:
            self._open.popleft().result()

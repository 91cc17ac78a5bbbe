"""Work that is done beside something else: on a thread of its own, one after the other, in the order it was given."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Literal, Self

Work = Callable[[], None]


class Beside:
    """A thread for work that waits for the disk while others wait for the network; two queues, since it is often.

    With ``thread=False`` all is done at once, by whoever asks for it.
    """

    def __init__(self, *, thread: bool) -> None:
        self._thread = threading.Thread(target=self._run, name="popug-beside") if thread else None
        self._given: SimpleQueue[Work | None] = SimpleQueue()
        self._done = Done()
        self._open = 0

    def __enter__(self) -> Self:
        """Begin the thread."""
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let the thread end with the work that it was given."""
        if self._thread is not None:
            self._given.put(None)
            self._thread.join()

    def start(self, work: Work) -> None:
        """Have some work done after what was given before."""
        if self._thread is None:
            work()
        else:
            self._open += 1
            self._given.put(work)

    def wait(self) -> None:
        """Wait until all work is done; raises what the first that failed raised."""
        while self._open:
            failure = self._done.outcomes.get()
            self._open -= 1
            if failure is not None:
                raise failure

    def _run(self) -> None:
        while (work := self._given.get()) is not None:
            with self._done:
                work()


class Done:
    """How each work went, for who waits for it: what it raised, or None."""

    def __init__(self) -> None:
        self.outcomes: SimpleQueue[BaseException | None] = SimpleQueue()

    def __enter__(self) -> None:
        """Nothing is done yet."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[True]:
        """Hand over what was raised."""
        self.outcomes.put(error)
        return True

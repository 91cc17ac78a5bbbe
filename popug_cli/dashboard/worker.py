"""Perform the dashboard's messages one by one in a thread, so that keys are never blocked."""

import sys
from asyncio import wrap_future
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

from popug_cli.kernel.calendar import Calendar
from popug_cli.kernel.errors import PopugError
from popug_cli.messages.base import DECLARATIONS, Message
from popug_cli.messages.identity import User
from popug_cli.messages.today import Activity

Answer = TypeVar("Answer")
REFRESH_SECONDS = 1.0


class Perform(Protocol):
    """Performs messages as the dashboard's user."""

    def __call__(self, message: Message[Answer], /) -> Answer:
        """Perform a message and return its answer; raise a ``PopugError`` for any failure."""
        ...


@dataclass(frozen=True)
class Company:
    """The company as the dashboard uses it: how to perform messages, the user, the calendar, the options.

    `describe` formats an activity as a sentence. `warnings` returns the warnings since its last call.
    """

    perform: Perform
    user: User
    calendar: Calendar
    describe: Callable[[Activity], str]
    warnings: Callable[[], list[str]] = list
    only_ascii: bool = False
    refresh_seconds: float = REFRESH_SECONDS

    def may(self, message: type[Message[Any]]) -> bool:
        """Return whether the user may send such a message."""
        return self.user.role in DECLARATIONS[message].roles


class MessageWorker:
    """Performs messages in a daemon thread, which the process does not wait for at its end."""

    def __init__(self, perform: Perform) -> None:
        self._perform = perform
        self._queue: SimpleQueue[tuple[Message[Any], Future[Any]] | None] = SimpleQueue()
        Thread(target=self._perform_queued_messages, name="popug-dashboard", daemon=True).start()

    async def ask(self, message: Message[Answer]) -> Answer:
        """Perform a message in the thread and return its answer; raise a ``PopugError`` for any failure."""
        answer: Future[Answer] = Future()
        self._queue.put((message, answer))
        return await wrap_future(answer)

    def close(self) -> None:
        """Stop after the current message."""
        self._queue.put(None)

    def _perform_queued_messages(self) -> None:
        while (request := self._queue.get()) is not None:
            message, answer = request
            if answer.set_running_or_notify_cancel():
                self._perform_and_answer(message, answer)

    def _perform_and_answer(self, message: Message[Any], answer: "Future[Any]") -> None:
        try:
            answer.set_result(self._perform(message))
        except PopugError as error:
            answer.set_exception(error)
        finally:
            if not answer.done():  # an internal error, which is raised where the answer is awaited
                answer.set_exception(sys.exc_info()[1])
                raise SystemExit

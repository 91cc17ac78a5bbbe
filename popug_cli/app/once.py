"""Commands that are sent again take effect once: side by side, one after the other, and across a crash."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgspec

from popug_cli.bus import replies
from popug_cli.bus.runtime import Context, Runtime
from popug_cli.kernel.errors import IntegrityFault, Unavailable
from popug_cli.messages.base import DECLARATIONS, Message, Query
from popug_cli.messages.principal import NOBODY, Principal
from popug_cli.storage.faults import begun_already

if TYPE_CHECKING:
    from popug_cli.app.local import Local

STRIPES = 64


class Once:
    """Lets no two commands of one key be performed at the same time, and remembers what is to be written down yet.

    An answer that a query found after the effect is written down a little later, with others; until then a crash
    leaves the query, which finds it again.
    """

    def __init__(self) -> None:
        self._locks = [Lock() for _ in range(STRIPES)]
        self._unwritten: dict[replies.Request, Any] = {}

    def remember(self, request: replies.Request, answer: Any) -> None:
        """Keep an answer until it is written down."""
        self._unwritten[request] = answer

    def remembered(self, request: replies.Request) -> Any:
        """The answer, if it is not written down yet."""
        return self._unwritten.get(request)

    def write_down(self, runtime: Runtime) -> None:
        """Write down all that is remembered, in one transaction."""
        if not self._unwritten:
            return
        writing = dict(self._unwritten)
        with runtime.writing(NOBODY) as context:
            for request, answer in writing.items():
                replies.keep(context, request, answer)
        for request in writing:
            self._unwritten.pop(request, None)

    @contextmanager
    def alone(self, request: replies.Request) -> Iterator[None]:
        """Held while a command of this key is performed."""
        with self._locks[hash((request.user_id, request.message, request.request_key)) % STRIPES]:
            yield


@dataclass(slots=True)
class Receipt:
    """Keeps what a command answers, in the very transaction of its effect if it is known there."""

    request: replies.Request
    answer: Any
    is_kept: bool = False
    is_final: bool = False

    def note(self, context: Context, result: Any) -> None:
        """See what came of a write of the command."""
        self.is_final = isinstance(self.answer, type) and isinstance(result, self.answer)
        if self.is_final or isinstance(result, Query):
            replies.keep(context, self.request, result)
            self.is_kept = True


def perform_once(place: "Local", once: Once, principal: Principal, message: Message[Any], key: str) -> tuple[Any, bool]:
    """The answer of a command, and whether it had been given before under the same key.

    What needs several transactions (closing days, sending mail) is taken up where a crash left it. Raises
    ``invalid_idempotency_key`` or ``idempotency_conflict``.
    """
    declaration = DECLARATIONS[type(message)]
    request = replies.request_of(principal.user_id, declaration, message, key)
    with once.alone(request):
        remembered = once.remembered(request)  # asked first: what is written down meanwhile is found
        with place.runtime.reading(principal) as context:
            reply = replies.find(context, request)
        if reply is not None:
            return remembered or _replayed(place, principal, reply), True
        receipt = Receipt(request, declaration.answer)
        place.on_write = receipt.note
        answer = place.perform_as(principal, message)
        if receipt.is_kept and not receipt.is_final:
            once.remember(request, answer)
        elif not receipt.is_kept:
            _keep(place, request, answer)
        return answer, False


def _keep(place: "Local", request: replies.Request, answer: Any) -> None:
    try:
        with place.runtime.writing(NOBODY) as context:
            replies.keep(context, request, answer)
    except (IntegrityFault, Unavailable) as fault:
        raise begun_already(fault) from fault


def _replayed(place: "Local", principal: Principal, reply: replies.Reply) -> Any:
    if reply.answer is not None:
        return msgspec.Raw(reply.answer.encode())
    return place.perform_as(principal, reply.next_query())

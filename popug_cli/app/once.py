"""Commands that are sent again take effect once: side by side, one after the other, and across a crash."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgspec

from popug_cli.bus import replies
from popug_cli.bus.runtime import Context
from popug_cli.messages.base import DECLARATIONS, Message, Query
from popug_cli.messages.principal import NOBODY, Principal

if TYPE_CHECKING:
    from popug_cli.app.local import Local

STRIPES = 64


class Once:
    """Lets no two commands of one key be performed at the same time."""

    def __init__(self) -> None:
        self._locks = [Lock() for _ in range(STRIPES)]

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
    is_final: bool = False

    def note(self, context: Context, result: Any) -> None:
        """See what came of a write of the command."""
        if isinstance(result, Query):
            replies.keep(context, self.request, result)
        elif isinstance(self.answer, type) and isinstance(result, self.answer):
            replies.keep(context, self.request, result)
            self.is_final = True


def perform_once(place: "Local", once: Once, principal: Principal, message: Message[Any], key: str) -> tuple[Any, bool]:
    """The answer of a command, and whether it had been given before under the same key.

    What needs several transactions (closing days, sending mail) is taken up where a crash left it. Raises
    ``invalid_idempotency_key`` or ``idempotency_conflict``.
    """
    declaration = DECLARATIONS[type(message)]
    request = replies.request_of(principal.user_id, declaration, message, key)
    with once.alone(request):
        with place.runtime.reading(principal) as context:
            reply = replies.find(context, request)
        if reply is not None:
            return _replayed(place, principal, reply), True
        receipt = Receipt(request, declaration.answer)
        place.on_write = receipt.note
        answer = place.perform_as(principal, message)
        if not receipt.is_final:
            with place.runtime.writing(NOBODY) as context:
                replies.keep(context, request, answer)
        return answer, False


def _replayed(place: "Local", principal: Principal, reply: replies.Reply) -> Any:
    if reply.answer is not None:
        return msgspec.Raw(reply.answer.encode())
    return place.perform_as(principal, reply.next_query())

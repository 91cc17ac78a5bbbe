"""Commands that are sent again take effect once: side by side, one after the other, and across a crash."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgspec

from popug_cli.bus import idempotency_store
from popug_cli.bus.context import Context, Runtime
from popug_cli.kernel.errors import IntegrityViolation, Unavailable
from popug_cli.messages.base import DECLARATIONS, Message, Query
from popug_cli.messages.principal import ANONYMOUS, Principal
from popug_cli.storage.errors import partly_done

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend

STRIPES = 64


class IdempotencyGuard:
    """Lets no two commands of one key be performed at the same time, and remembers what is to be written down yet.

    An answer that a query found after the effect is written down a little later, with others; until then a crash
    leaves the query, which finds it again.
    """

    def __init__(self) -> None:
        self._locks = [Lock() for _ in range(STRIPES)]
        self._unsaved: dict[idempotency_store.IdempotentCommand, Any] = {}

    def remember(self, request: idempotency_store.IdempotentCommand, answer: Any) -> None:
        """Keep an answer until it is written down."""
        self._unsaved[request] = answer

    def remembered(self, request: idempotency_store.IdempotentCommand) -> Any:
        """The answer, if it is not written down yet."""
        return self._unsaved.get(request)

    def flush(self, runtime: Runtime) -> None:
        """Write down all that is remembered, in one transaction."""
        if not self._unsaved:
            return
        unsaved = dict(self._unsaved)
        with runtime.writing(ANONYMOUS) as context:
            for request, answer in unsaved.items():
                idempotency_store.save(context, request, answer)
        for request in unsaved:
            self._unsaved.pop(request, None)

    @contextmanager
    def lock(self, request: idempotency_store.IdempotentCommand) -> Iterator[None]:
        """Held while a command of this key is performed."""
        with self._locks[hash((request.user_id, request.message, request.request_key)) % STRIPES]:
            yield


@dataclass(slots=True)
class AnswerRecorder:
    """Keeps what a command answers, in the very transaction of its effect if it is known there."""

    request: idempotency_store.IdempotentCommand
    answer: Any
    is_saved: bool = False
    is_final: bool = False

    def record(self, context: Context, result: Any) -> None:
        """See what came of a write of the command."""
        self.is_final = isinstance(self.answer, type) and isinstance(result, self.answer)
        if self.is_final or isinstance(result, Query):
            idempotency_store.save(context, self.request, result)
            self.is_saved = True


def perform_idempotently(
    backend: "LocalBackend", guard: IdempotencyGuard, principal: Principal, message: Message[Any], key: str
) -> tuple[Any, bool]:
    """The answer of a command, and whether it had been given before under the same key.

    What needs several transactions (closing days, sending mail) is taken up where a crash left it. Raises
    ``invalid_idempotency_key`` or ``idempotency_conflict``.
    """
    declaration = DECLARATIONS[type(message)]
    request = idempotency_store.request_of(principal.user_id, declaration, message, key)
    with guard.lock(request):
        remembered = guard.remembered(request)  # asked first: what is written down meanwhile is found
        with backend.runtime.reading(principal) as context:
            stored = idempotency_store.find(context, request)
        if stored is not None:
            return remembered or _replayed(backend, principal, stored), True
        recorder = AnswerRecorder(request, declaration.answer)
        backend.on_write = recorder.record
        answer = backend.perform_as(principal, message)
        if recorder.is_saved and not recorder.is_final:
            guard.remember(request, answer)
        elif not recorder.is_saved:
            _save(backend, request, answer)
        return answer, False


def _save(backend: "LocalBackend", request: idempotency_store.IdempotentCommand, answer: Any) -> None:
    try:
        with backend.runtime.writing(ANONYMOUS) as context:
            idempotency_store.save(context, request, answer)
    except (IntegrityViolation, Unavailable) as fault:
        raise partly_done(fault) from fault


def _replayed(backend: "LocalBackend", principal: Principal, stored: idempotency_store.StoredAnswer) -> Any:
    if stored.answer is not None:
        return msgspec.Raw(stored.answer.encode())
    return backend.perform_as(principal, stored.next_query())

"""Idempotency keys: a command sent again with the same key takes effect once, also concurrently and after a crash."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
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

LOCK_COUNT = 64


class IdempotencyGuard:
    """Serializes commands with the same idempotency key, and buffers answers that are not stored yet.

    If a follow-up query determines the answer, the query is stored with the effect, and the answer later in a batch.
    After a crash before that, the query is run again.
    """

    def __init__(self) -> None:
        self._locks = [Lock() for _ in range(LOCK_COUNT)]
        self._unsaved: dict[idempotency_store.IdempotentCommand, Any] = {}

    def remember(self, request: idempotency_store.IdempotentCommand, answer: Any) -> None:
        """Buffer an answer until the next `flush`."""
        self._unsaved[request] = answer

    def remembered(self, request: idempotency_store.IdempotentCommand) -> Any:
        """Return the buffered answer, or None."""
        return self._unsaved.get(request)

    @property
    def has_unsaved(self) -> bool:
        """Return whether answers are buffered."""
        return bool(self._unsaved)

    def flush(self, runtime: Runtime) -> None:
        """Store all buffered answers in one transaction."""
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
        """Lock the key while its command is performed; several keys may share a lock."""
        with self._locks[hash((request.user_id, request.message, request.idempotency_key)) % LOCK_COUNT]:
            yield


class RepeatedCommand(Exception):
    """Another server has performed the command since its key was looked up; ``stored`` is the answer."""

    def __init__(self, stored: idempotency_store.StoredAnswer) -> None:
        super().__init__()
        self.stored = stored


@dataclass(slots=True)
class AnswerRecorder:
    """Stores the answer of a command, in the transaction of its effect if it is known there.

    ``answer_type`` is the type of the answer. ``is_saved`` says that something was stored, and ``is_final`` that it was
    the answer itself, not the query that determines it.
    """

    request: idempotency_store.IdempotentCommand
    answer_type: Any
    is_saved: bool = False
    is_final: bool = False

    def refuse_repetition(self, context: Context) -> None:
        """Raise ``RepeatedCommand`` if the answer is stored, which only the holder of the write lock knows."""
        if not self.is_saved and (stored := idempotency_store.find(context, self.request)) is not None:
            raise RepeatedCommand(stored)

    def record(self, context: Context, result: Any) -> None:
        """Store the result of a write if it is the answer, or the query that determines the answer."""
        self.is_final = isinstance(self.answer_type, type) and isinstance(result, self.answer_type)
        if self.is_final or isinstance(result, Query):
            idempotency_store.save(context, self.request, result)
            self.is_saved = True


def perform_idempotently(
    backend: "LocalBackend", guard: IdempotencyGuard, principal: Principal, message: Message[Any], key: str
) -> tuple[Any, bool]:
    """Return the answer of a command, and whether it is a replay of an earlier answer to the same key.

    A command of several transactions (closing days, sending mail) continues where a crash interrupted it. Raise
    ``invalid_idempotency_key`` or ``idempotency_conflict``.
    """
    declaration = DECLARATIONS[type(message)]
    request = idempotency_store.request_of(principal.user_id, declaration, message, key)
    with guard.lock(request):
        remembered = guard.remembered(request)  # read first: an answer that is flushed after this is found in the store
        with backend.runtime.reading(principal) as context:
            stored = idempotency_store.find(context, request)
        if stored is not None:
            return _replayed(backend, principal, stored, remembered), True
        recorder = AnswerRecorder(request, declaration.answer)
        backend.on_write = recorder.record
        if backend.runtime.database.is_shared:
            backend.before_write = recorder.refuse_repetition
        try:
            answer = backend.perform_as(principal, message)
        except RepeatedCommand as repetition:
            return _replayed(backend, principal, repetition.stored, None), True
        if recorder.is_saved and not recorder.is_final:
            guard.remember(request, answer)
        elif not recorder.is_saved:
            _save(backend, request, answer)
        return answer, False


def _commit_nothing(backend: "LocalBackend") -> None:
    with backend.runtime.writing(ANONYMOUS):
        pass


def _save(backend: "LocalBackend", request: idempotency_store.IdempotentCommand, answer: Any) -> None:
    try:
        with backend.runtime.writing(ANONYMOUS) as context:
            idempotency_store.save(context, request, answer)
    except (IntegrityViolation, Unavailable) as fault:
        raise partly_done(fault) from fault


def _replayed(
    backend: "LocalBackend", principal: Principal, stored: idempotency_store.StoredAnswer, remembered: Any
) -> Any:
    """Return the stored answer. First a commit shows that the synchronous standby has it as well, if there is one."""
    if backend.runtime.database.is_shared:
        backend.rerun(partial(_commit_nothing, backend))
    backend.reads.show_newest(backend.runtime)
    if remembered is not None:
        return remembered
    if stored.answer is not None:
        return msgspec.Raw(stored.answer.encode())
    backend.reads.allows_replica = False  # the answer of a command
    return backend.perform_as(principal, stored.next_query())

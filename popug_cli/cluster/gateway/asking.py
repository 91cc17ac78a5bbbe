"""The requests that the gateway sends to services on behalf of one message of a client."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from popug_cli.cluster.gateway.service_answers import ServiceAnswer, Services
from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.kernel.positions import Positions, merge
from popug_cli.messages.base import DECLARATIONS, Message
from popug_cli.messages.services import SERVICES

Answer = TypeVar("Answer")


class ClientMessage:
    """A message of a client: its token, its idempotency key and the positions that the client has ``seen``.

    The gateway asks services on its behalf, with these. ``warnings`` and ``positions`` are those of all their answers.
    ``is_replayed`` says that a service has answered it before, under the same key.
    """

    def __init__(
        self, services: Services, threads: ThreadPoolExecutor, token: str | None, *, key: str | None, seen: Positions
    ) -> None:
        self._services = services
        self._threads = threads
        self._token = token
        self._key = key
        self._seen = seen
        self.warnings: list[str] = []
        self.positions: Positions = {}
        self.is_replayed = False

    def forward(self, service: str, message: Message[Any]) -> msgspec.Raw:
        """Return the answer of a service as JSON; raise its error, or ``service_unavailable``."""
        return msgspec.Raw(self._received(self._ask(service, message)))

    def forward_to_any(self, message: Message[Any]) -> msgspec.Raw:
        """Return the answer of the first service that answers; raise the error of the last one if none does."""
        unavailable: Unavailable | None = None
        for service in SERVICES:
            try:
                return self.forward(service, message)
            except Unavailable as error:
                unavailable = error
        assert unavailable is not None
        raise unavailable

    def ask(self, service: str, message: Message[Answer]) -> Answer:
        """Return the answer of a service; raise as ``forward`` does."""
        return _decoded(message, self._received(self._ask(service, message)))

    def ask_each(
        self,
        messages: Mapping[str, Message[Answer]],
        describe_missing: Callable[[str], str] | None = None,
        absent_code: str = "",
    ) -> dict[str, Answer]:
        """Ask several services at the same time, and return the answers by service.

        Warn of each service that is not available, with the sentence that ``describe_missing`` returns for its name.
        Raise such an error if no service answers. A service that raises ``absent_code`` has no part; raise that error
        if all do. Raise any other error.
        """
        futures = {service: self._threads.submit(self._ask, service, message) for service, message in messages.items()}
        answers: dict[str, Answer] = {}
        missing: dict[str, PopugError] = {}
        absent: list[PopugError] = []
        refusals: list[PopugError] = []
        for service, future in futures.items():
            try:
                answers[service] = _decoded(messages[service], self._received(future.result()))
            except Unavailable as error:
                missing[service] = error
            except PopugError as error:
                (absent if error.code == absent_code else refusals).append(error)
        if errors := [*refusals, *([] if answers else [*missing.values(), *absent])]:
            raise errors[0]
        if describe_missing is not None:
            self.warnings += [f"{error.message} {describe_missing(service)}" for service, error in missing.items()]
        return answers

    def _ask(self, service: str, message: Message[Any]) -> ServiceAnswer:
        return self._services.ask(service, message, self._token, key=self._key, seen=self._seen)

    def _received(self, answer: ServiceAnswer) -> bytes:
        self.warnings += [warning for warning in answer.warnings if warning not in self.warnings]
        self.positions = merge(self.positions, answer.positions)
        self.is_replayed = self.is_replayed or answer.is_replayed
        return answer.body


def _decoded(message: Message[Answer], body: bytes) -> Answer:
    answer: Answer = msgspec.json.decode(body, type=DECLARATIONS[type(message)].answer)
    return answer

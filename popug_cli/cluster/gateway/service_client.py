"""Ask one service over HTTP. Each request uses a connection of its own, which is kept for later requests."""

from threading import Lock
from typing import Any, NamedTuple

from popug_cli.client.address import Address
from popug_cli.client.remote_backend import RemoteBackend
from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.kernel.log import LOG
from popug_cli.kernel.positions import KnownPositions, Positions, merge
from popug_cli.messages.base import Message

MAX_IDLE_CONNECTIONS = 32
NO_ANSWER_CODES = ("server_unavailable", "server_version", "in_doubt")


class CompanyOfServer(NamedTuple):
    """The company that a server belongs to: its id, and the IANA name of its time zone."""

    home_id: str
    time_zone: str


class ServiceAnswer(NamedTuple):
    """The answer of a service as JSON, its warnings, and the positions that it shows."""

    body: bytes
    warnings: list[str]
    is_replayed: bool
    positions: Positions


class AnswerPositions(KnownPositions):
    """The positions of one request: those that it sends, and those of its answer."""

    def __init__(self, seen: Positions) -> None:
        super().__init__(seen)
        self.shown: Positions = {}

    def keep(self, positions: Positions) -> None:
        """Record the positions of an answer, which the request does not send."""
        self.shown = merge(self.shown, positions)


class ServiceClient:
    """Asks the service ``name`` at an address; safe to use from many threads."""

    def __init__(self, name: str, address: Address) -> None:
        self.name = name
        self.address = address
        self._idle: list[RemoteBackend] = []
        self._lock = Lock()

    def ask(self, message: Message[Any], token: str | None, *, key: str | None, seen: Positions) -> ServiceAnswer:
        """Send a message and return the answer.

        Raise the error of the service, with its positions; ``service_unavailable`` if it does not answer, or
        ``in_doubt`` if it broke off and the message may have taken effect.
        """
        backend, warnings, positions = self._take(), list[str](), AnswerPositions(seen)
        backend.warn, backend.positions = warnings.append, positions
        try:
            body = backend.ask(message, token, key=key)
        except PopugError as error:
            raised = self._named(error)
            raised.positions = positions.shown
            raise raised from error
        finally:
            self._give(backend)
        return ServiceAnswer(body, warnings, backend.is_replayed, positions.shown)

    def company(self) -> CompanyOfServer:
        """Return the company that the service belongs to; raise as ``ask`` does, also if it is not ready."""
        backend = self._take()
        try:
            backend.fetch_server_info()
        except PopugError as error:
            raise self._named(error) from error
        finally:
            self._give(backend)
        return CompanyOfServer(backend.home_id, backend.time_zone)

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for backend in idle:
            backend.close()

    def _take(self) -> RemoteBackend:
        with self._lock:
            return self._idle.pop() if self._idle else RemoteBackend(self.address)

    def _give(self, backend: RemoteBackend) -> None:
        with self._lock:
            if len(self._idle) < MAX_IDLE_CONNECTIONS:
                self._idle.append(backend)
                return
        backend.close()

    def _named(self, error: PopugError) -> PopugError:
        """Return the error of a service that does not answer, with the service's name and not its address."""
        if error.details.get("server") != self.address.url or error.code not in NO_ANSWER_CODES:
            return error
        LOG.warning("%s: %s", self.name, error.message)
        details = {"service": self.name}
        if error.code == "in_doubt":
            sentence = f"The service {self.name} broke off before its answer came; the request may have taken effect."
            return Unavailable("in_doubt", sentence, hint=error.hint, details=details)
        return Unavailable(
            "service_unavailable",
            f"The service {self.name} does not answer now.",
            hint=f"Try again in a moment. An operator finds the reason in the log of the gateway or of {self.name}.",
            details=details,
        )

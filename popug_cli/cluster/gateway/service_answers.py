"""Ask a service, and name it in the error if it does not answer."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from popug_cli.client.address import Address
from popug_cli.cluster.service_clients import Caller, ServiceClients
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.log import LOG
from popug_cli.kernel.positions import KnownPositions, Positions, merge
from popug_cli.messages.base import DECLARATIONS, Message


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


class Services:
    """The services at their ``addresses``; safe to use from many threads."""

    def __init__(self, addresses: Mapping[str, Address]) -> None:
        self._clients = ServiceClients(addresses)
        self._clients_for_parts = ServiceClients(addresses, are_parts=True)

    def ask(
        self, service: str, message: Message[Any], token: str | None, *, key: str | None, seen: Positions
    ) -> ServiceAnswer:
        """Send a message to a service and return the answer; an internal message is sent as a part.

        Raise the error of the service, with its positions; ``service_unavailable`` if it does not answer, or
        ``in_doubt`` if it broke off and the message may have taken effect.
        """
        warnings, positions = list[str](), AnswerPositions(seen)
        clients = self._clients_for_parts if DECLARATIONS[type(message)].is_internal else self._clients
        with clients.client(service, Caller(token, positions, warnings.append)) as client:
            try:
                body = client.ask(message, token, key=key)
            except PopugError as error:
                raised = clients.named(service, error)
                raised.positions = positions.shown
                raise raised from error
            return ServiceAnswer(body, warnings, client.is_replayed, positions.shown)

    def company_of(self, service: str) -> CompanyOfServer:
        """Return the company that a service belongs to; raise as ``ask`` does, also if it is not ready."""
        with self._clients.client(service, Caller(None, AnswerPositions({}), LOG.warning)) as client:
            try:
                client.check_readiness()
            except PopugError as error:
                raise self._clients.named(service, error) from error
            return CompanyOfServer(client.home_id, client.time_zone)

    def close(self) -> None:
        """Close the connections that no thread uses."""
        self._clients.close()
        self._clients_for_parts.close()

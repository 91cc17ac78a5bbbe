"""Ask the services of a cluster over HTTP."""

import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from popug_cli.client.address import Address, parse
from popug_cli.client.remote_backend import RemoteBackend
from popug_cli.cluster.places import Places
from popug_cli.kernel.errors import InvalidInput, PopugError, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.kernel.log import WarnOnce
from popug_cli.kernel.positions import KnownPositions
from popug_cli.kernel.settings import SERVICE_ADDRESSES, Settings
from popug_cli.messages.base import Message
from popug_cli.messages.services import SERVICES
from popug_cli.platform.accounts import SUPERUSER

MAX_REMEMBERED_WARNINGS = 10
NO_ANSWER_CODES = ("server_unavailable", "server_version", "in_doubt")
MAX_IDLE_CLIENTS = 16  # of each service; more are closed when they have their answer


def addresses_from(settings: Settings, places: Places) -> dict[str, Address]:
    """Return the address of each service: that of the settings, else the socket of its home.

    Raise ``invalid_server`` for an address that is not valid, and ``invalid_setting`` for another fault.
    """
    addresses = {service: _socket_address(places.home_of(service)) for service in SERVICES}
    for item in filter(None, map(str.strip, settings.text(SERVICE_ADDRESSES).split(","))):
        service, equals, url = item.partition("=")
        if not equals or service not in SERVICES:
            raise InvalidInput(
                "invalid_setting",
                f"{item!r} is not a valid part of {SERVICE_ADDRESSES}: it must be SERVICE=URL.",
                hint=f"The services are {', '.join(SERVICES)}: POPUG_SERVICES=tasks=https://tasks.example.com,…",
                details={"key": SERVICE_ADDRESSES},
            )
        addresses[service] = parse(url.strip())
    return addresses


def _socket_address(home: Home) -> Address:
    """Return the socket in a home, where only the home's owner and the superuser may listen."""
    try:
        owner = home.root.stat().st_uid
    except OSError:  # the service has not been started yet
        owner = os.geteuid()
    return Address(path=os.fspath(home.socket), trusted_user_ids=frozenset({SUPERUSER, os.geteuid(), owner}))


class Caller(NamedTuple):
    """The message on whose behalf services are asked: its token, what its sender has seen, and its warnings.

    The positions that the answers show are added to ``positions``.
    """

    token: str | None
    positions: KnownPositions
    warn: Callable[[str], None]


class ServiceClients:
    """Clients of a cluster's services, whose connections are kept open and shared by the threads of a process.

    With ``are_parts``, they ask for parts of a message that this service performs.
    """

    def __init__(self, addresses: Mapping[str, Address], *, are_parts: bool = False) -> None:
        self._addresses = addresses
        self._are_parts = are_parts
        self._warn = WarnOnce(MAX_REMEMBERED_WARNINGS)
        self._idle: defaultdict[str, deque[RemoteBackend]] = defaultdict(deque)

    @contextmanager
    def client(self, service: str, caller: Caller) -> Iterator[RemoteBackend]:
        """Yield a client of a service that no other thread uses."""
        try:
            client = self._idle[service].pop()
        except IndexError:
            client = RemoteBackend(self._addresses[service], are_parts=self._are_parts, any_release=True)
        client.positions, client.warn = caller.positions, caller.warn
        try:
            yield client
        finally:
            if len(self._idle[service]) < MAX_IDLE_CLIENTS:
                self._idle[service].append(client)
            else:
                client.close()

    def ask(self, service: str, message: Message[Any], caller: Caller) -> Any:
        """Return a service's answer; raise its errors, or those of ``named`` if it does not answer."""
        with self.client(service, caller) as client:
            try:
                return client.perform(message, caller.token)
            except PopugError as error:
                raise self.named(service, error) from error

    def named(self, service: str, error: PopugError) -> PopugError:
        """Return the error to raise for a failed request. If the service did not answer, name it, and log its address.

        The code is then ``service_unavailable``, ``in_doubt`` if the request may have taken effect, or
        ``server_version``.
        """
        if error.details.get("server") != self._addresses[service].url or error.code not in NO_ANSWER_CODES:
            return error
        self._warn(f"{service}: {error.message}")
        details = {"service": service}
        if error.code == "in_doubt":
            sentence = f"The service {service} did not finish its answer; the request may have taken effect."
            return Unavailable("in_doubt", sentence, hint=error.hint, details=details)
        if error.code == "server_version":
            sentence = f"The server at the address of the service {service} is not a server of popug."
            hint = "Correct the address in POPUG_SERVICES."
            return Unavailable("server_version", sentence, hint=hint, details=details)
        return Unavailable(
            "service_unavailable",
            f"The service {service} does not answer now.",
            hint="Try again in a moment. The log of the server that asked has the reason.",
            details=details,
        )

    def close(self) -> None:
        """Close the connections that no thread uses."""
        for clients in self._idle.values():
            while clients:
                clients.pop().close()

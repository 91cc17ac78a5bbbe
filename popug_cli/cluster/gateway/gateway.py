"""The gateway: what a server performs for clients by asking the services of a cluster. It has no database and no home.

The gateway sends a message to the service that performs it. That service asks the others for their parts. The gateway
itself composes only what each service has of its own, such as its log.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from time import monotonic, sleep
from typing import Any

import msgspec

from popug_cli.app.handlers import service_of
from popug_cli.app.hosting.served_company import NO_POSITIONS, PerformResult
from popug_cli.client.address import Address
from popug_cli.cluster.gateway.asking import ClientMessage
from popug_cli.cluster.gateway.composed import ASKING_SERVICES, COMPOSED, OF_ANY_SERVICE
from popug_cli.cluster.gateway.service_answers import CompanyOfServer, Services
from popug_cli.cluster.gateway.token_checks import TokenChecks
from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.kernel.log import LOG
from popug_cli.kernel.positions import Positions
from popug_cli.messages.base import DECLARATIONS, Access, Message
from popug_cli.messages.identity import KeySet, LogIn, ShowKeys
from popug_cli.messages.services import SERVICES

THREADS = 64
START_SECONDS = 30.0
RETRY_SECONDS = 0.2
PROBE_SECONDS = 5.0
NEEDED = ("identity", "tasks")


class Gateway:
    """The services of a cluster as one company, at the ``addresses`` of the services by name.

    Raise ``service_unavailable`` if no service answers within ``START_SECONDS``: each service knows the company.
    """

    def __init__(self, addresses: Mapping[str, Address]) -> None:
        self._services = Services(addresses)
        self._threads = ThreadPoolExecutor(THREADS, "popug-ask")
        self._probes: dict[str, Future[CompanyOfServer]] = {}
        self._company = self._find_company()
        self._tokens = TokenChecks(self._company.home_id, self._fetch_keys)

    @property
    def home_id(self) -> str:
        """Return the id of the company."""
        return self._company.home_id

    @property
    def time_zone(self) -> str:
        """Return the IANA name of the company's time zone."""
        return self._company.time_zone

    def perform(
        self,
        message: Message[Any],
        token: str | None,
        *,
        key: str | None = None,
        seen: Positions = NO_POSITIONS,
        waited_seconds: float | None = None,
    ) -> PerformResult:
        """Perform a message on behalf of the token's owner; raise a ``PopugError`` with positions for any failure.

        The services wait until they cover what the client has ``seen``.
        """
        if token is None and DECLARATIONS[type(message)].access is Access.TOKEN:
            self._tokens.verify(None)
        client = ClientMessage(self._services, self._threads, token, key=key, seen=seen)
        try:
            answer = self._perform(client, message)
        except PopugError as error:
            error.positions = error.positions or client.positions
            raise
        return PerformResult(answer, client.warnings, client.is_replayed, client.positions)

    def has_verified(self, token: str | None) -> bool:
        """Return whether the signature of a token was verified before and the token has not expired."""
        return self._tokens.has_verified(token)

    def verify(self, token: str | None) -> None:
        """Raise the error of a missing token, or of one whose signature or lifetime is not valid (exit status 4).

        While identity does not answer and its keys are not known here, the service that performs the message decides.
        """
        try:
            self._tokens.verify(token)
        except Unavailable:
            LOG.warning("Tokens are not verified at the gateway until identity answers.")

    def authenticate(self, token: str | None) -> None:
        """Raise the error of a token that permits no large request; also if identity has to answer and does not."""
        self._tokens.verify(token)

    def user_of_known_device(self, message: LogIn) -> str | None:
        """Return the username in lower case, if the device that logs in has logged in as this user before."""
        return self._tokens.user_of_known_device(message)

    def username_of(self, message: LogIn) -> str | None:
        """Return None: only identity knows the users, and it logs their names itself."""
        return None

    def probe(self) -> dict[str, Any]:
        """Return the services that do not answer in time; raise ``service_unavailable`` if one of them is needed."""
        for name in SERVICES:
            if name not in self._probes or self._probes[name].done():  # at most one probe waits for a stopped service
                self._probes[name] = self._threads.submit(self._services.company_of, name)
        done, _ = wait(self._probes.values(), PROBE_SECONDS)
        missing = [name for name, probe in self._probes.items() if probe not in done or probe.exception() is not None]
        if needed := [name for name in NEEDED if name in missing]:
            raise Unavailable(
                "service_unavailable",
                f"Not all services answer; missing: {', '.join(missing)}.",
                hint=f"Start {' and '.join(needed)}, or correct POPUG_SERVICES.",
                details={"missing": missing},
            )
        return {"missing": missing}

    def check(self) -> None:
        """Do nothing: no failure of a service stops the gateway."""

    def follow(self, warn: Callable[[str], None]) -> bool:
        """Return True: nothing waits here between messages."""
        return True

    def stop_reconnecting(self) -> None:
        """Do nothing: the gateway has no database."""

    def is_database_reachable(self) -> bool:
        """Return True: a service that does not answer ends what waits for it."""
        return True

    def close(self) -> None:
        """Close the idle connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._services.close()

    def _perform(self, client: ClientMessage, message: Message[Any]) -> Any:
        kind = type(message)
        if compose := COMPOSED.get(kind):
            return compose(client, message)
        if kind in OF_ANY_SERVICE:
            return client.forward_to_any(message)
        return client.forward(ASKING_SERVICES.get(kind) or service_of(DECLARATIONS[kind]), message)

    def _fetch_keys(self) -> KeySet:
        answer = self._services.ask("identity", ShowKeys(), None, key=None, seen={})
        return msgspec.json.decode(answer.body, type=KeySet)

    def _find_company(self) -> CompanyOfServer:
        began = monotonic()
        while True:
            for service in SERVICES:
                try:
                    company = self._services.company_of(service)
                except PopugError as error:
                    unavailable = error
                else:
                    return company
            if monotonic() - began > START_SECONDS:
                raise unavailable
            sleep(RETRY_SECONDS)

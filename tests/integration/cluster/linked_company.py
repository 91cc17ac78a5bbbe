"""A company as five services on SQLite homes, whose logs are copied through topics in memory when a test says so."""

from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from popug_cli.app import LocalBackend
from popug_cli.app.asked_by_services import perform_for_service
from popug_cli.app.handlers import service_of
from popug_cli.bus.relay import MAX_CLAIM_EVENTS
from popug_cli.bus.service.coverage import includes_of
from popug_cli.cluster.links import Topic, relay_once, replicate_once
from popug_cli.cluster.service_homes import create_service_homes
from popug_cli.kernel.positions import KnownPositions
from popug_cli.messages.base import DECLARATIONS, Message
from popug_cli.messages.principal import Principal
from popug_cli.messages.services import SERVICES, receivers_of
from tests.simulation.linked.topic import MemoryTopic
from tests.support.company import InProcess

Answer = TypeVar("Answer")
TURNS = 4  # so often all logs are copied until everything that follows has arrived


class LinkedCompany:
    """The services of a company with the admin boss and the workers ann and bob; one client asks all of them.

    Their topics are in memory unless ``topics`` are given, by the name of the service.
    """

    def __init__(self, directory: Path, topics: Mapping[str, Topic] | None = None) -> None:
        self.company = InProcess(directory / "company")
        self.company.hire("ann")
        self.company.hire("bob")
        self.people = self.company.people
        self.client = KnownPositions()
        self.warnings: list[str] = []
        self.copies_when_asked = False
        self.topics: Mapping[str, Any] = topics or {name: MemoryTopic(self.company.clock) for name in SERVICES}
        with closing(self.company.backend):
            self.homes = create_service_homes(self.company.backend, directory / "services")
        self.services = {name: self.open(name) for name in SERVICES}
        self.settle()

    def open(self, service: str) -> LocalBackend:
        return LocalBackend(
            self.homes[service],
            warn=self.warnings.append,
            clock=self.company.clock,
            randomness=self.company.chance,
            positions=self.client,
            ask_service=self.ask,
        )

    def close(self) -> None:
        for backend in self.services.values():
            backend.close()

    def act(self, username: str, message: Message[Answer]) -> Answer:
        """Send a message to the service that performs it."""
        service = service_of(DECLARATIONS[type(message)])
        return self.services[service].perform_as(self.people[username], message)

    def relay(self, origin: str, limit: int = MAX_CLAIM_EVENTS) -> None:
        """Send the next own events of a service to its topic."""
        backend = self.services[origin]
        includes = partial(includes_of, service=origin, consumers=backend.consumers)
        relay_once(backend.runtime, self.topics[origin], includes, limit)

    def receive(self, service: str, origin: str) -> None:
        """Let a service take all records of another one's topic; its consumers do not run."""
        while replicate_once(self.services[service].runtime, origin, self.topics[origin]):
            pass

    def copy(self, origin: str) -> None:
        """Bring what a service has published to all that receive it."""
        self.relay(origin)
        for service in receivers_of(origin):
            self.receive(service, origin)

    def settle(self) -> None:
        """Copy and consume everything."""
        for _ in range(TURNS):
            for origin in SERVICES:
                self.copy(origin)
            for backend in self.services.values():
                backend.catch_up()

    def head(self, service: str) -> int:
        """Return the position of the last event of a service's log."""
        return int(self.rows(service, "SELECT max(sequence) AS head FROM bus_log")[0]["head"])

    def rows(self, service: str, statement: str) -> list[dict[str, Any]]:
        with self.services[service].runtime.reading(self.people["boss"]) as context:
            return context.connection.records(statement)

    def ask(self, service: str, principal: Principal, message: Message[Any]) -> Any:
        """Ask a service for its part; with ``copies_when_asked``, everything is copied before and after."""
        if self.copies_when_asked:
            self.settle()
        answer = perform_for_service(self.services[service], principal, message)
        if self.copies_when_asked:
            self.settle()
        return answer

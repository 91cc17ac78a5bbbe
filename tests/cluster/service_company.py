"""A company as five services on SQLite homes that are linked by Kafka, asked without a gateway."""

from contextlib import closing
from pathlib import Path
from typing import TypeVar

from popug_cli.app import LocalBackend
from popug_cli.app.handlers import service_of
from popug_cli.client.address import Address
from popug_cli.client.remote_backend import RemoteBackend
from popug_cli.cluster.service_homes import create_service_homes
from popug_cli.kernel.positions import KnownPositions
from popug_cli.kernel.settings import load_settings
from popug_cli.messages.base import DECLARATIONS, Message
from popug_cli.messages.services import SERVICES
from tests.cluster.running_cluster import GATEWAY, RunningCluster
from tests.support.running_server import create_home

Answer = TypeVar("Answer")


class ServiceCompany:
    """The services of a company with the admin ada and workers such as kesha; one client asks all of them."""

    def __init__(self, directory: Path, brokers: str, prefix: str) -> None:
        from popug_cli.cluster.kafka.connection import connection_from
        from popug_cli.cluster.kafka.topics import create_topics

        company = create_home(directory / "company")
        self.tokens = company.tokens
        with closing(LocalBackend(company.home)) as backend:
            self.homes = create_service_homes(backend, directory / "s")
        connection = connection_from(load_settings(directory / "config.toml", {}), brokers)
        create_topics(connection, [f"{prefix}.{service}" for service in SERVICES])
        self.cluster = RunningCluster(directory / "s", brokers, prefix=prefix)
        del self.cluster.processes[GATEWAY]
        self.cluster.start()
        self.warnings: list[str] = []
        positions = KnownPositions()
        self._clients = {
            name: RemoteBackend(Address(path=str(home.socket)), warn=self.warnings.append)
            for name, home in self.homes.items()
        }
        for client in self._clients.values():
            client.positions = positions

    def ask(self, username: str, message: Message[Answer], service: str = "") -> Answer:
        """Send a message to a service, by default the one that performs it."""
        service = service or service_of(DECLARATIONS[type(message)])
        return self._clients[service].perform(message, self.tokens[username])

    def close(self) -> None:
        """End the processes."""
        for client in self._clients.values():
            client.close()
        self.cluster.close()

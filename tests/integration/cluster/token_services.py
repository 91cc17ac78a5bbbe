"""The services identity and tasks of one company, and the topic between them, which stamps what it stores."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from popug_cli.app import LocalBackend
from popug_cli.bus.catch_up import catch_up
from popug_cli.bus.records import TopicRecord
from popug_cli.cluster.links import relay_once, replicate_once
from popug_cli.cluster.service_homes import create_service_homes
from popug_cli.identity.consumers import CONSUMER
from popug_cli.kernel.errors import PopugError
from popug_cli.messages.base import Message
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import ListTasks, ShuffleTasks
from tests.support.company import SeededChance, SetClock
from tests.support.identity_company import CHEAP, People

WORK: Message[Any] = ListTasks()
ABOVE_WORKER: Message[Any] = ShuffleTasks()


@dataclass
class StampingTopic:
    """A topic whose broker has a clock of its own."""

    clock: SetClock
    records: list[TopicRecord] = field(default_factory=list)

    def produce(self, records: Sequence[TopicRecord]) -> None:
        stamp = int(self.clock.now().timestamp() * 1000)
        self.records += [record._replace(timestamp_ms=stamp) for record in records]

    def read(self, offset: int, limit: int, wait_seconds: float = 0.0) -> list[tuple[int, TopicRecord]]:
        return list(enumerate(self.records))[offset : offset + limit]

    def close(self) -> None:
        """Do nothing: nothing is open."""


class TokenServices:
    """Identity, in which people change, and tasks, which verifies their tokens; each has a clock of its own.

    Another ``service`` may take the place of tasks.
    """

    def __init__(self, people: People, directory: Path, service: str = "tasks") -> None:
        self.people = people
        self.broker_clock, self.tasks_clock = SetClock(), SetClock()
        homes = create_service_homes(people.backend, directory)
        company = people.backend
        self.identity = people
        self.identity.backend = LocalBackend(homes["identity"], clock=people.clock, randomness=people.chance)
        company.close()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in CHEAP.items():
                patch.setenv(name, value)
            self.identity.backend.runtime  # noqa: B018 - it reads the settings once, when it is opened
        self.tasks = self.open_tasks(homes[service])
        self.topic = StampingTopic(self.broker_clock)

    def open_tasks(self, home: Any) -> LocalBackend:
        return LocalBackend(home, clock=self.tasks_clock, randomness=SeededChance(7))

    def advance(self, **duration: float) -> None:
        for clock in (self.people.clock, self.broker_clock, self.tasks_clock):
            clock.advance(**duration)

    def send(self) -> None:
        """Let identity's relay send what the topic lacks, and a watermark."""
        while not relay_once(self.identity.backend.runtime, self.topic, lambda context: {}):
            pass

    def receive(self) -> None:
        """Let the replicator of tasks take all that the topic has, and the consumer of tokens consume it."""
        self.take()
        self.consume()

    def take(self) -> None:
        while replicate_once(self.tasks.runtime, "identity", self.topic):
            pass

    def consume(self) -> None:
        catch_up(self.tasks.runtime, (CONSUMER,))

    def sync(self) -> None:
        self.send()
        self.receive()

    def refusal(self, token: str, message: Message[Any] = WORK, at: LocalBackend | None = None) -> str:
        """Return the code with which tasks refuses a message; empty if it does not."""
        try:
            (at or self.tasks).perform(message, token)
        except PopugError as error:
            return error.code if error.hint else "without a hint"
        return ""

    def refusal_on_snapshot(self, token: str, message: Message[Any]) -> str:
        """Return the code as ``refusal`` does, without letting any consumer run."""
        try:
            self.tasks.authorize(message, token)
        except PopugError as error:
            return error.code if error.hint else "without a hint"
        return ""

    def rows(self, statement: str) -> list[dict[str, Any]]:
        with self.tasks.runtime.reading(OPERATOR) as context:
            return context.connection.records(statement)

    def execute(self, statement: str) -> None:
        with self.tasks.runtime.writing(OPERATOR) as context:
            context.connection.execute(statement)

    def close(self) -> None:
        with closing(self.tasks), closing(self.identity.backend):
            pass


def machine(services: TokenServices, name: str, ttl_seconds: int = 86_400) -> str:
    """Return a machine token of a user, which outlives the hours of a test."""
    return services.people.machine_token(name, ttl_seconds)

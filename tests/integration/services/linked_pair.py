"""Two services made of one home, and the topic of one of them."""

import shutil
from collections import Counter
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

from popug_cli import bootstrap
from popug_cli.bus import relay, stream_store
from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Context
from popug_cli.bus.records import TopicRecord
from popug_cli.bus.relay import Claim
from popug_cli.bus.replicator import take
from popug_cli.bus.streams import StreamState, StreamVerdict
from popug_cli.kernel.home import Home
from popug_cli.messages.identity import UserDeactivated, UserRegistered
from popug_cli.messages.principal import OPERATOR
from tests.support.bus_fixture import BusFixture
from tests.support.company import SeededChance

LOG = "0198f3c2-0000-7000-8000-00000000000a"
OWN_LOG = "0198f3c2-0000-7000-8000-00000000000b"
REGISTERED = {"popug.identity.user_registered"}
V = StreamVerdict


@dataclass
class Link:
    """The services identity and tasks, made of one home, and the topic of identity."""

    identity: BusFixture
    tasks: BusFixture
    topic: list[TopicRecord] = field(default_factory=list)

    def claim(self, limit: int = 100) -> Claim:
        with self.identity.runtime.writing(OPERATOR) as context:
            return relay.claim(context, {"tasks": 1}, limit)

    def send(self, limit: int = 100) -> Claim:
        claimed = self.claim(limit)
        self.topic += relay.records_of(claimed)
        with self.identity.runtime.writing(OPERATOR) as context:
            relay.advance(context, claimed)
        return claimed

    def take(self, offset: int | None = None, names: set[str] = REGISTERED, **options: bool) -> Counter[StreamVerdict]:
        """Take what the topic has after an offset; the stored one, unless another is given."""
        with self.tasks.runtime.writing(OPERATOR) as context:
            stored = stream_store.load(context.connection, "identity").next_offset
            start = stored if offset is None else offset
            verdicts = take(context, "identity", list(enumerate(self.topic))[start:], names)
            if options.get("fails"):
                raise RuntimeError("killed before the commit")
            return verdicts

    def stream(self) -> tuple[StreamState, int]:
        with self.tasks.runtime.reading(OPERATOR) as context:
            return stream_store.load(context.connection, "identity")


def make_link(tmp_path: Path) -> Link:
    """Return identity and tasks, which begin with the same log."""
    identity = BusFixture(tmp_path / "identity")
    identity.publish("ann", "bob")
    shutil.copytree(tmp_path / "identity", tmp_path / "tasks")
    tasks = copy(identity)
    tasks.root, tasks.failing = tmp_path / "tasks", set()
    tasks.runtime = bootstrap.open_runtime(Home(tasks.root), clock=identity.clock, randomness=SeededChance())
    tasks.consumer = Consumer("toy", (UserRegistered, UserDeactivated), tasks._consume)
    create(identity, "identity", LOG, {})
    create(tasks, "tasks", OWN_LOG, {"identity": LOG})
    return Link(identity, tasks)


def create(service: BusFixture, name: str, log_id: str, streams: dict[str, str]) -> None:
    with service.runtime.writing(OPERATOR) as context:
        stream_store.create_service(context, name, log_id, streams)


def publish(service: BusFixture, change: Callable[[Context], object]) -> None:
    with service.runtime.writing(OPERATOR) as context:
        change(context)


def log_ids_of(service: BusFixture) -> list[str]:
    """Return the ids of the events of a log, in its order."""
    return [str(row["id"]) for row in service.rows("SELECT id FROM bus_log ORDER BY sequence")]

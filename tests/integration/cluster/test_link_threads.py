"""The threads that link the logs of services: what one service does is soon known to the others."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Condition

import pytest

from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.bus.records import TopicRecord
from popug_cli.cluster.link_threads import LinkThreads
from popug_cli.cluster.service_homes import create_service_homes
from popug_cli.kernel.clock import SystemClock
from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import AddTask
from tests.simulation.linked.topic import MemoryTopic
from tests.support.company import InProcess

PATIENCE_SECONDS = 20.0
LINKED = ("identity", "tasks", "billing")


class SharedTopic(MemoryTopic):
    """A topic that threads share, and that cannot be reached for a while."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self._changed = Condition()
        self.is_down = False

    def produce(self, records: Sequence[TopicRecord]) -> None:
        self._check()
        with self._changed:
            super().produce(records)
            self._changed.notify_all()

    def read(self, offset: int, limit: int, wait_seconds: float = 0.0) -> list[tuple[int, TopicRecord]]:
        self._check()
        with self._changed:
            if offset >= len(self.records):
                self._changed.wait(wait_seconds)
            return super().read(offset, limit)

    def _check(self) -> None:
        if self.is_down:
            raise Unavailable("unreachable", "No broker answers.", hint="Start one.")


class Servers:
    """Servers of three services, with their threads."""

    def __init__(self, company: InProcess, homes: dict[str, Home]) -> None:
        self.boss = company.people["boss"]
        self.topics = {name: SharedTopic() for name in homes}
        self.served = {name: ServedCompany(homes[name], threads=4) for name in LINKED}
        self.threads = {name: LinkThreads(self.served[name], self.topics) for name in LINKED}

    def add_task(self, title: str) -> None:
        self.served["tasks"].open_backend(print).perform_as(self.boss, AddTask(title=title))

    def is_priced(self, title: str) -> bool:
        with self.served["tasks"].runtime.reading(OPERATOR) as context:
            statement = "SELECT fee_cents FROM tasks_tasks WHERE title = ?"
            return context.connection.scalar(statement, title) is not None


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    company = InProcess(tmp_path / "company", clock=SystemClock())  # type: ignore[arg-type]
    company.hire("ann")
    homes = create_service_homes(company.backend, tmp_path / "services")
    company.backend.close()
    servers = Servers(company, homes)
    for name, threads in servers.threads.items():
        servers.served[name].runtime.newest.on_growth = threads.wake
        threads.start()
    try:
        yield servers
    finally:
        for threads in servers.threads.values():
            threads.stop()
        for served in servers.served.values():
            served.close()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.01)


def test_price_arrives_from_billing(servers: Servers) -> None:
    servers.add_task("Feed the cage")
    wait_until(lambda: servers.is_priced("Feed the cage"))


def test_links_go_on_when_brokers_answer_again(servers: Servers, caplog: pytest.LogCaptureFixture) -> None:
    for topic in servers.topics.values():
        topic.is_down = True
    servers.add_task("Clean the cage")
    wait_until(lambda: "No broker answers." in caplog.text)
    assert not servers.is_priced("Clean the cage")
    for topic in servers.topics.values():
        topic.is_down = False
    wait_until(lambda: servers.is_priced("Clean the cage"))


def test_idle_links_send_watermarks_only(servers: Servers) -> None:
    servers.add_task("Paint the cage")
    wait_until(lambda: servers.is_priced("Paint the cage"))
    time.sleep(1.5)
    before = {name: len(servers.topics[name].records) for name in LINKED}
    time.sleep(3)
    for name in LINKED:
        assert 1 <= len(servers.topics[name].records) - before[name] <= 10


def test_copy_of_a_service_starts_no_link(servers: Servers, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "services/mail", tmp_path / "copy")
    copy = ServedCompany(Home(tmp_path / "copy"), threads=1)
    try:
        with pytest.raises(PopugError) as refused:
            LinkThreads(copy, servers.topics).start()
        assert refused.value.code == "copied_database"
    finally:
        copy.close()

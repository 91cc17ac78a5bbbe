"""The steps of a relay and of a replicator between the homes of services, over topics in memory."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from popug_cli.app import LocalBackend
from popug_cli.bus.records import TopicRecord, WatermarkRecord, parse_record
from popug_cli.bus.streams import StreamVerdict
from popug_cli.cluster.links import relay_once, replicate_once
from popug_cli.cluster.service_homes import create_service_homes
from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.messages.identity import AddUser
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import AddTask
from tests.simulation.linked.topic import MemoryTopic
from tests.support.company import InProcess

HEAD = {"billing": 7}


class Cluster:
    """The services of a company, and a topic for each."""

    def __init__(self, company: InProcess, services: dict[str, LocalBackend]) -> None:
        self.company, self.services = company, services
        self.topics = {name: MemoryTopic(company.clock) for name in services}

    def add_task(self) -> None:
        self.services["tasks"].perform_as(self.company.people["boss"], AddTask(title="Feed the cage"))

    def relay(self, name: str, limit: int = 100) -> bool:
        return relay_once(self.services[name].runtime, self.topics[name], lambda context: HEAD, limit)

    def replicate(self, name: str, origin: str) -> dict[StreamVerdict, int]:
        return replicate_once(self.services[name].runtime, origin, self.topics[origin])

    def rows(self, name: str, statement: str) -> list[tuple[Any, ...]]:
        with self.services[name].runtime.reading(OPERATOR) as context:
            return context.connection.select(statement)

    def watermarks(self, name: str) -> list[WatermarkRecord]:
        records = [parse_record(record) for record in self.topics[name].records if record]
        return [record for record in records if isinstance(record, WatermarkRecord)]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    company = InProcess(tmp_path / "company")
    company.hire("ann")
    homes = create_service_homes(company.backend, tmp_path / "services")
    with ExitStack() as stack:
        stack.enter_context(closing(company.backend))
        services = {name: stack.enter_context(closing(company.backend.for_home(home))) for name, home in homes.items()}
        yield Cluster(company, services)


def test_event_reaches_the_tables_of_another_service(cluster: Cluster) -> None:
    cluster.add_task()
    assert cluster.relay("tasks")
    cluster.replicate("billing", "tasks")
    cluster.services["billing"].catch_up()
    ((task_id, fee),) = cluster.rows("billing", "SELECT task_id, fee_cents FROM billing_tasks")
    assert cluster.rows("billing", "SELECT kind, amount_cents FROM billing_entries") == [("fee", fee)]
    cluster.relay("billing")
    cluster.replicate("tasks", "billing")
    cluster.services["tasks"].catch_up()
    assert cluster.rows("tasks", "SELECT task_id, fee_cents FROM tasks_tasks") == [(task_id, fee)]


def test_only_subscribed_names_are_stored(cluster: Cluster) -> None:
    cluster.add_task()
    cluster.relay("tasks")
    cluster.replicate("analytics", "tasks")
    stored = cluster.rows("analytics", "SELECT type FROM bus_log JOIN bus_received USING (sequence) WHERE sequence > 3")
    assert stored[-1:] == [("popug.tasks.task_created.v2",)]
    assert ("popug.tasks.task_assigned.v1",) not in stored


def test_idle_relay_sends_a_watermark_with_includes(cluster: Cluster) -> None:
    cluster.relay("tasks")
    cluster.relay("tasks")
    first, second = cluster.watermarks("tasks")
    assert first == second
    assert first.includes == HEAD


def test_full_claim_says_that_events_are_left(cluster: Cluster) -> None:
    cluster.add_task()
    assert not cluster.relay("tasks", limit=1)
    assert cluster.watermarks("tasks")[0].includes is None
    assert not cluster.relay("tasks", limit=1)
    assert cluster.relay("tasks", limit=1)
    assert cluster.watermarks("tasks")[-1].includes == HEAD


def test_failed_delivery_is_repeated_by_the_next_step(cluster: Cluster) -> None:
    class BrokenTopic(MemoryTopic):
        def produce(self, records: Sequence[TopicRecord]) -> None:
            super().produce(records[:1])
            raise Unavailable("unreachable", "No broker answers.", hint="Start one.")

    cluster.add_task()
    sound, broken = cluster.topics["tasks"], BrokenTopic(cluster.company.clock)
    cluster.topics["tasks"] = broken
    with pytest.raises(Unavailable):
        cluster.relay("tasks")
    sound.records = broken.records
    cluster.topics["tasks"] = sound
    cluster.relay("tasks")
    verdicts = cluster.replicate("billing", "tasks")
    assert (verdicts[StreamVerdict.DUPLICATE], verdicts[StreamVerdict.ACCEPTED]) == (1, 2)


def test_relay_stops_where_its_topic_has_another_log(cluster: Cluster) -> None:
    cluster.add_task()
    cluster.relay("tasks")
    with cluster.services["tasks"].runtime.writing(OPERATOR) as context:
        context.connection.execute("DROP TRIGGER bus_log_no_delete")
        context.connection.execute("DELETE FROM bus_log WHERE sequence = (SELECT max(sequence) FROM bus_log)")
    for _ in range(2):
        with pytest.raises(PopugError) as refused:
            cluster.relay("tasks")
        assert refused.value.code == "two_publishers"


def test_topic_at_its_end_changes_nothing(cluster: Cluster) -> None:
    assert cluster.replicate("billing", "tasks") == {}


def test_company_has_no_streams(cluster: Cluster) -> None:
    cluster.services["tasks"] = cluster.company.backend
    for step in (lambda: cluster.relay("tasks"), lambda: cluster.replicate("tasks", "identity")):
        with pytest.raises(PopugError) as refused:
            step()
        assert refused.value.code == "not_a_service"


def test_user_of_identity_can_get_a_task(cluster: Cluster) -> None:
    cluster.services["identity"].perform_as(
        cluster.company.people["boss"], AddUser(username="bob", email="bob@example.com", role="worker")
    )
    cluster.relay("identity")
    cluster.replicate("tasks", "identity")
    cluster.add_task()  # a command first lets tasks consume what it has received
    assert ("bob", 1) in cluster.rows("tasks", "SELECT username, assignable FROM tasks_people")

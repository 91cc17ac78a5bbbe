"""The logs of services are linked through topics of Kafka, and programs of others can read these topics."""

import json
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_structured_event

from popug_cli.bus.records import TopicRecord
from popug_cli.cluster.links import Topic
from popug_cli.kernel.settings import Settings
from popug_cli.messages.services import SERVICES
from popug_cli.messages.tasks import AddTask, CompleteTask
from tests.cluster.kafka_programs import require_kafka, require_program
from tests.cluster.shared_brokers import RunningBrokers
from tests.integration.cluster.linked_company import LinkedCompany

require_kafka()

from popug_cli.cluster.kafka import reader  # noqa: E402
from popug_cli.cluster.kafka.connection import connection_from  # noqa: E402
from popug_cli.cluster.kafka.topic import KafkaTopic  # noqa: E402
from popug_cli.cluster.kafka.topics import create_topics  # noqa: E402

WAIT_SECONDS = 0.05


class WaitingTopic:
    """A topic whose reader waits a moment at the end, so that what was produced before has arrived."""

    def __init__(self, topic: KafkaTopic) -> None:
        self._topic = topic

    def produce(self, records: Sequence[TopicRecord]) -> None:
        self._topic.produce(records)

    def read(self, offset: int, limit: int, wait_seconds: float = 0.0) -> list[tuple[int, TopicRecord]]:
        return self._topic.read(offset, limit, max(wait_seconds, WAIT_SECONDS))

    def close(self) -> None:
        self._topic.close()


@pytest.fixture
def topics(
    brokers: RunningBrokers, settings: Settings, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Topic]]:
    monkeypatch.setitem(reader.OPTIONS, "fetch.wait.max.ms", 20)  # the end of a topic is then known sooner
    connection = connection_from(settings, brokers.address)
    names = {service: f"{prefix}.{service}" for service in SERVICES}
    create_topics(connection, names.values())
    topics: dict[str, Topic] = {service: WaitingTopic(KafkaTopic(connection, name)) for service, name in names.items()}
    yield topics
    for topic in topics.values():
        topic.close()


@pytest.fixture
def company(topics: dict[str, Topic], tmp_path: Path) -> Iterator[LinkedCompany]:
    company = LinkedCompany(tmp_path, topics)
    yield company
    company.close()


def complete_task(company: LinkedCompany, number: int) -> None:
    task = company.act("boss", AddTask(title="Feed the cage"))
    company.settle()
    company.act(task.assignee, CompleteTask(number=number))
    company.settle()


def entries(company: LinkedCompany) -> list[str]:
    return [row["kind"] for row in company.rows("billing", "SELECT kind FROM billing_entries ORDER BY rowid")]


def prices(company: LinkedCompany) -> list[dict[str, Any]]:
    return company.rows("tasks", "SELECT fee_cents FROM tasks_tasks WHERE fee_cents IS NOT NULL")


def foreign_records(record: TopicRecord) -> list[TopicRecord]:
    """Return records that are not of this company: of other programs, and one of another log."""
    other_log = [(name, b"0199a0f0-0000-7000-8000-000000000000" if name == "popug_log" else value)
                 for name, value in record.headers]  # fmt: skip
    return [
        TopicRecord(b"key", b"not json", [("content-type", b"text/plain")]),
        TopicRecord(None, None, []),
        TopicRecord(b"\xff", secrets.token_bytes(1000), [("popug_log", b"\xff\x00"), ("ce_id", None)]),
        record._replace(headers=other_log),
        record._replace(value=b"{}"),
    ]


def test_events_go_round_and_are_priced(company: LinkedCompany) -> None:
    complete_task(company, 1)
    assert entries(company) == ["fee", "reward"]
    assert len(prices(company)) == 1


def test_foreign_records_change_nothing(company: LinkedCompany, topics: dict[str, Topic]) -> None:
    complete_task(company, 1)
    for topic in topics.values():
        events = [record for _, record in topic.read(0, 100) if record.value]
        topic.produce(foreign_records(events[0] if events else TopicRecord(b"key", b"value", [])))
    company.settle()
    complete_task(company, 2)
    assert entries(company) == ["fee", "reward"] * 2
    assert len(prices(company)) == 2


def test_kcat_and_cloudevents_read_the_topic(company: LinkedCompany, brokers: RunningBrokers, prefix: str) -> None:
    require_program("kcat", "kcat")
    complete_task(company, 1)
    line = ["kcat", "-C", "-e", "-q", "-J", "-b", brokers.address, "-t", f"{prefix}.tasks", "-o", "beginning"]
    said = subprocess.run(line, capture_output=True, text=True, check=True, timeout=60).stdout
    messages = [json.loads(text) for text in said.splitlines()]
    events = [message for message in messages if message["payload"]]
    assert {message["tstype"] for message in messages} == {"logappend"}
    own = company.rows("tasks", "SELECT envelope FROM bus_log WHERE type LIKE 'popug.tasks.%' ORDER BY sequence")
    assert [message["payload"] for message in events] == [row["envelope"] for row in own]
    for message in events:
        names, values = message["headers"][::2], message["headers"][1::2]
        headers = {name: value.encode() for name, value in zip(names, values, strict=True)}
        assert headers["content-type"].startswith(b"application/cloudevents")  # so it is in structured mode
        event = from_structured_event(KafkaMessage(headers, message["key"], message["payload"].encode()))
        stored = json.loads(message["payload"])
        assert (event.get_id(), event.get_type(), event.get_data()) == (stored["id"], stored["type"], stored["data"])
        assert event.get_subject() == message["key"]
        assert headers["ce_id"].decode() == event.get_id()

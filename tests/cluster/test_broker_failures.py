"""Brokers are killed, frozen or shut down during the work, and no acknowledged record is lost."""

import time
from collections.abc import Iterator
from threading import Event, Thread

import pytest

from popug_cli.bus.records import TopicRecord
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.settings import Settings
from tests.cluster.kafka_programs import require_kafka
from tests.cluster.shared_brokers import RunningBrokers

require_kafka()

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined] # noqa: E402

from popug_cli.cluster.kafka import producer, reader  # noqa: E402
from popug_cli.cluster.kafka.brokers import read_state  # noqa: E402
from popug_cli.cluster.kafka.connection import KafkaConnection, connection_from  # noqa: E402
from popug_cli.cluster.kafka.topic import KafkaTopic  # noqa: E402
from popug_cli.cluster.kafka.topics import create_topics  # noqa: E402

BATCH = 50
WAIT_SECONDS = 120


class Sender:
    """A thread that sends numbered batches until it is stopped; ``acknowledged`` counts the records."""

    def __init__(self, topic: KafkaTopic) -> None:
        self._topic = topic
        self._stopping = Event()
        self._thread = Thread(target=self._run)
        self.acknowledged = 0
        self.errors: list[PopugError] = []

    def __enter__(self) -> "Sender":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def wait_for_more(self, count: int = 2 * BATCH) -> None:
        """Wait until ``count`` further records are acknowledged."""
        wanted, deadline = self.acknowledged + count, time.monotonic() + WAIT_SECONDS
        while self.acknowledged < wanted:
            assert time.monotonic() < deadline, [error.message for error in self.errors]
            time.sleep(0.02)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._topic.produce(numbered(self.acknowledged, BATCH))
                self.acknowledged += BATCH
            except PopugError as error:
                self.errors.append(error)


def numbered(first: int, count: int) -> list[TopicRecord]:
    return [TopicRecord(b"key", str(number).encode(), []) for number in range(first, first + count)]


def values(topic: KafkaTopic) -> list[int]:
    found: list[int] = []
    offset = 0
    while records := topic.read(offset, 5_000, wait_seconds=1):
        found += [int(record.value or b"") for _, record in records]
        offset = records[-1][0] + 1
    return found


@pytest.fixture
def connection(breakable_brokers: RunningBrokers, settings: Settings) -> KafkaConnection:
    return connection_from(settings, breakable_brokers.address)


@pytest.fixture
def topic(connection: KafkaConnection, prefix: str) -> Iterator[KafkaTopic]:
    create_topics(connection, [f"{prefix}.tasks"])
    topic = KafkaTopic(connection, f"{prefix}.tasks")
    yield topic
    topic.close()


def leader_of(connection: KafkaConnection, topic: KafkaTopic) -> int:
    leader = read_state(connection, [topic.name]).topics[0].leader
    assert leader is not None
    return leader


def test_kill_of_leaders_loses_nothing(
    breakable_brokers: RunningBrokers, connection: KafkaConnection, topic: KafkaTopic
) -> None:
    with Sender(topic) as sender:
        sender.wait_for_more()
        for _ in range(2):
            leader = leader_of(connection, topic)
            breakable_brokers.kill(leader)
            sender.wait_for_more()
            state = read_state(connection, [topic.name])
            assert [broker.id for broker in state.brokers if not broker.is_up] == [leader]
            assert state.topics[0].is_under_replicated
            breakable_brokers.start(leader)
            breakable_brokers.wait_in_sync(topic.name)
            sender.wait_for_more()
    assert sender.errors == []
    assert list(dict.fromkeys(values(topic))) == list(range(sender.acknowledged))
    state = read_state(connection, [topic.name])
    assert [broker.is_up for broker in state.brokers] == [True] * 3
    assert not state.topics[0].is_under_replicated


@pytest.mark.slow
def test_frozen_leader_delays_and_loses_nothing(
    breakable_brokers: RunningBrokers, connection: KafkaConnection, topic: KafkaTopic
) -> None:
    with Sender(topic) as sender:
        sender.wait_for_more()
        leader = leader_of(connection, topic)
        breakable_brokers.freeze(leader)
        sender.wait_for_more()
        breakable_brokers.resume(leader)
        sender.wait_for_more()
    assert list(dict.fromkeys(values(topic))) == list(range(sender.acknowledged))


def test_two_brokers_down_refuse_until_one_is_back(
    breakable_brokers: RunningBrokers,
    connection: KafkaConnection,
    topic: KafkaTopic,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topic.produce(numbered(0, BATCH))
    others = {1, 2, 3} - {leader_of(connection, topic)}
    for number in others:
        breakable_brokers.kill(number)
    with monkeypatch.context() as patch:
        patch.setitem(producer.OPTIONS, "message.timeout.ms", 4_000)
        patch.setattr(reader, "ANSWER_SECONDS", 2.0)
        fresh = KafkaTopic(connection, topic.name)
        with pytest.raises(PopugError) as refused:
            fresh.produce(numbered(BATCH, BATCH))
        fresh.close()
    assert (refused.value.code, refused.value.exit_status) == ("brokers_unavailable", 8)
    assert "popug cluster status" in refused.value.hint
    state = read_state(connection, [topic.name])
    assert {broker.id for broker in state.brokers if not broker.is_up} == others
    breakable_brokers.start(min(others))
    topic.produce(numbered(BATCH, BATCH))
    assert list(dict.fromkeys(values(topic))) == list(range(2 * BATCH))


def test_too_few_replicas_in_sync_are_named(
    breakable_brokers: RunningBrokers, connection: KafkaConnection, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = AdminClient(dict(connection.options))
    strict = NewTopic(f"{prefix}.strict", 1, 3, config={"min.insync.replicas": "3"})
    client.create_topics([strict])[strict.topic].result(30)
    monkeypatch.setitem(producer.OPTIONS, "message.timeout.ms", 8_000)
    topic = KafkaTopic(connection, strict.topic)
    breakable_brokers.kill(1)
    with pytest.raises(PopugError) as refused:
        topic.produce(numbered(0, 1))
    assert "too few of its replicas are in sync (2 of 3)" in refused.value.message
    breakable_brokers.start(1)
    breakable_brokers.wait_in_sync(strict.topic)
    topic.produce(numbered(0, 1))
    topic.close()


def test_close_ends_a_call_that_waits(
    breakable_brokers: RunningBrokers, connection: KafkaConnection, topic: KafkaTopic
) -> None:
    for number in (1, 2, 3):
        breakable_brokers.kill(number)
    errors: list[str] = []

    def use(step: str) -> None:
        try:
            topic.produce(numbered(0, 1)) if step == "produce" else topic.read(0, 1, wait_seconds=60)
        except PopugError as error:
            errors.append(error.message)

    threads = [Thread(target=use, args=(step,)) for step in ("produce", "read")]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    topic.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert errors == ["The connection to the Kafka brokers is closed."] * 2

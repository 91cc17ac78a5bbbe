"""A topic of Kafka keeps records byte for byte, from the offset that the reader asks for."""

import os
import time
from collections.abc import Iterator

import pytest

from popug_cli.bus.records import TopicRecord
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.settings import Settings
from tests.cluster.kafka_programs import require_kafka
from tests.cluster.shared_brokers import RunningBrokers

require_kafka()

from popug_cli.cluster.kafka.connection import KafkaConnection, connection_from  # noqa: E402
from popug_cli.cluster.kafka.topic import KafkaTopic  # noqa: E402
from popug_cli.cluster.kafka.topics import create_topics  # noqa: E402

HEADERS = [("ce_id", b"1"), ("twice", b"a"), ("empty", b""), ("none", None), ("twice", b"\xff\x00")]
RECORDS = [
    TopicRecord("зерно".encode(), '{"title": "кормить"}'.encode(), HEADERS),
    TopicRecord(None, b"", [("popug_watermark", b"1")]),
    TopicRecord(b"", None, []),
]


@pytest.fixture
def connection(brokers: RunningBrokers, settings: Settings) -> KafkaConnection:
    return connection_from(settings, brokers.address)


@pytest.fixture
def topic(connection: KafkaConnection, prefix: str) -> Iterator[KafkaTopic]:
    create_topics(connection, [f"{prefix}.tasks"])
    topic = KafkaTopic(connection, f"{prefix}.tasks")
    yield topic
    topic.close()


def numbered(first: int, count: int) -> list[TopicRecord]:
    return [TopicRecord(b"key", str(number).encode(), []) for number in range(first, first + count)]


def without_stamps(read: list[tuple[int, TopicRecord]]) -> list[TopicRecord]:
    return [record._replace(timestamp_ms=None) for _, record in read]


def read_all(topic: KafkaTopic, offset: int, limit: int = 100) -> list[tuple[int, TopicRecord]]:
    found: list[tuple[int, TopicRecord]] = []
    while records := topic.read(offset, limit, wait_seconds=0.2):
        found += records
        offset = records[-1][0] + 1
    return found


def test_records_are_kept_byte_for_byte(topic: KafkaTopic) -> None:
    before = time.time()
    topic.produce(RECORDS)
    read = read_all(topic, 0)
    assert without_stamps(read) == RECORDS
    assert [offset for offset, _ in read] == [0, 1, 2]
    stamps = [record.timestamp_ms for _, record in read]
    assert all(stamp is not None and abs(stamp / 1000 - before) < 60 for stamp in stamps)


def test_largest_event_is_kept(topic: KafkaTopic) -> None:
    large = TopicRecord(b"key", os.urandom(900_000), [("ce_subject", b"s" * 20_000)])
    topic.produce([large, large])
    assert without_stamps(read_all(topic, 0)) == [large, large]


def test_read_begins_at_any_offset(topic: KafkaTopic) -> None:
    topic.produce(numbered(0, 50))
    for offset in (20, 30, 5, 49, 0):
        ((found, record),) = topic.read(offset, limit=1)
        assert (found, record.value) == (offset, str(offset).encode())


def test_read_goes_on_after_what_it_returned(topic: KafkaTopic) -> None:
    assert topic.read(0, 100) == []
    for first in range(0, 200, 40):
        topic.produce(numbered(first, 40))
        read = read_all(topic, first, limit=7)
        assert [record.value for _, record in read] == [str(number).encode() for number in range(first, first + 40)]


def test_read_at_the_end_waits_for_a_record(topic: KafkaTopic) -> None:
    topic.produce(numbered(0, 1))
    began = time.monotonic()
    assert topic.read(1, 100, wait_seconds=0.5) == []
    assert time.monotonic() - began >= 0.5


def test_offset_that_does_not_exist_reads_the_oldest(topic: KafkaTopic) -> None:
    topic.produce(numbered(0, 3))
    assert topic.read(900, 100)[0][0] == 0


def test_closed_topic_refuses(topic: KafkaTopic) -> None:
    topic.close()
    for use in (lambda: topic.produce(numbered(0, 1)), lambda: topic.read(0, 1)):
        with pytest.raises(PopugError) as refused:
            use()
        assert refused.value.code == "brokers_unavailable"

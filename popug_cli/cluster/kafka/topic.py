"""A topic of Kafka as the port ``Topic`` of ``cluster/links.py``."""

from collections.abc import Sequence

from popug_cli.bus.records import TopicRecord
from popug_cli.cluster.kafka.connection import KafkaConnection
from popug_cli.cluster.kafka.producer import RecordProducer
from popug_cli.cluster.kafka.reader import RecordReader


class KafkaTopic:
    """Partition 0 of a topic. One thread may produce while another one reads; clients are opened at the first use.

    It has a consumer without a group: the caller stores the offset, in the transaction that has the effect of the
    records. ``group.id`` is set because librdkafka demands it; nothing is committed.
    """

    def __init__(self, connection: KafkaConnection, name: str) -> None:
        self.name = name
        self._producer = RecordProducer(connection, name)
        self._reader = RecordReader(connection, name)

    def produce(self, records: Sequence[TopicRecord]) -> None:
        """Append records in their order, and return when the replicas in sync have acknowledged all.

        Raise ``brokers_unavailable``, ``topic_missing`` or ``topics_differ`` if one is not acknowledged, at the latest
        35 s after the last acknowledgement; the topic may then have any of them.
        """
        self._producer.produce(records)

    def read(self, offset: int, limit: int, wait_seconds: float = 0.0) -> list[tuple[int, TopicRecord]]:
        """Return the next records from an offset on, at most ``limit``, each with its offset.

        From an offset that the topic does not have, because its records were removed or it was created again, it goes
        on at the oldest record. At the end of the topic, wait at most ``wait_seconds`` for a record; without one,
        return none. With 0, the end is the one in the broker's last answer, so records of this moment may be missing.
        Raise ``brokers_unavailable`` or ``topic_missing``, at the latest 15 s after ``wait_seconds``.
        """
        return self._reader.read(offset, limit, wait_seconds)

    def close(self) -> None:
        """Close the clients. A call in another thread ends within 3 s, with ``brokers_unavailable``."""
        self._producer.close()
        self._reader.close()

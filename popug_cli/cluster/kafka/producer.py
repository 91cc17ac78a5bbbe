"""Append records to a topic, each acknowledged by the replicas in sync."""

import time
from collections.abc import Sequence
from threading import Event, Lock
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from popug_cli.bus.records import TopicRecord
from popug_cli.cluster.kafka.connection import KafkaConnection
from popug_cli.cluster.kafka.errors import NO_ANSWER, UNAVAILABLE, broker_error, diagnose, error_in, open_client
from popug_cli.kernel.errors import PopugError, Unavailable

PARTITION = 0
MAX_RECORD_BYTES = 1_000_000  # an event of 900,000 bytes, its key and its headers
MAX_QUEUE_KIB = 64 * 1024
DELIVERY_SECONDS = 30.0  # Kafka elects a new leader 14 s after the kill of a broker, by default
STALLED_SECONDS = 35.0
POLL_SECONDS = 0.2
OPTIONS: dict[str, Any] = {
    "acks": "all",
    "enable.idempotence": True,
    "linger.ms": 5,
    "compression.type": "lz4",
    "message.max.bytes": MAX_RECORD_BYTES,
    "message.timeout.ms": int(DELIVERY_SECONDS * 1000),
    "request.timeout.ms": 10_000,  # how long the client waits for a leader that is stopped, not killed
    "queue.buffering.max.kbytes": MAX_QUEUE_KIB,
    "topic.metadata.propagation.max.ms": 5_000,
}


class RecordProducer:
    """Produce to partition 0 of a topic; after an error begin with a new client, which knows no earlier record."""

    def __init__(self, connection: KafkaConnection, topic: str) -> None:
        self._connection, self._topic = connection, topic
        self._lock, self._closing = Lock(), Event()
        self._client: _ProducerClient | None = None

    def produce(self, records: Sequence[TopicRecord]) -> None:
        """Do what ``KafkaTopic.produce`` says."""
        with self._lock:
            if self._client is None:
                self._client = _ProducerClient(self._connection, self._topic, self._closing)
            try:
                self._client.send(records)
            except BaseException:
                self._discard()
                raise

    def close(self) -> None:
        """End a call in another thread, and close the client."""
        self._closing.set()
        with self._lock:
            self._discard()

    def _discard(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


class _ProducerClient:
    """A client that sends records and waits for their acknowledgements."""

    def __init__(self, connection: KafkaConnection, topic: str, closing: Event) -> None:
        self._connection, self._topic, self._closing = connection, topic, closing
        self._producer, self._trouble = open_client(Producer, connection, OPTIONS)
        self._failure: KafkaError | None = None
        self._progressed_at = 0.0

    def send(self, records: Sequence[TopicRecord]) -> None:
        """Send records and wait for their acknowledgements; raise the first failure."""
        self._progressed_at = time.monotonic()
        for record in records:
            while not self._enqueue(record):
                self._wait()
        while len(self._producer):
            self._wait()
        self._require_sound()

    def _enqueue(self, record: TopicRecord) -> bool:
        """Give a record to the client; return whether its queue had room."""
        try:
            self._producer.produce(
                self._topic,
                value=record.value,
                key=record.key,
                partition=PARTITION,
                headers=list(record.headers),
                on_delivery=self._on_delivery,
            )
        except BufferError:
            return False
        except KafkaException as error:
            raise broker_error(error_in(error), self._connection, self._topic) from error
        return True

    def _on_delivery(self, error: KafkaError | None, _: Message) -> None:
        self._progressed_at = time.monotonic()
        self._failure = self._failure or error

    def _wait(self) -> None:
        """Let the client work until all is acknowledged or some time has passed; raise what has failed."""
        self._producer.flush(POLL_SECONDS)
        self._require_sound()

    def _require_sound(self) -> None:
        if self._closing.is_set():
            raise closed()
        if self._failure is not None:
            raise self._cause(self._failure)
        trouble = self._trouble.latest
        if trouble is not None and self._trouble.is_lasting:
            raise broker_error(trouble, self._connection, self._topic)
        if time.monotonic() - self._progressed_at > STALLED_SECONDS:
            raise diagnose(self._producer, self._trouble, self._connection, self._topic, STALLED_SECONDS)

    def _cause(self, failure: KafkaError) -> PopugError:
        if failure.code() in NO_ANSWER:
            return diagnose(self._producer, self._trouble, self._connection, self._topic, DELIVERY_SECONDS)
        return broker_error(failure, self._connection, self._topic)

    def close(self) -> None:
        """Forget what is not sent, and close the client."""
        self._producer.purge()
        self._producer.flush(POLL_SECONDS)
        self._producer.close()


def closed() -> Unavailable:
    """Return the error for a topic that is closed."""
    return Unavailable(UNAVAILABLE, "The connection to the Kafka brokers is closed.", hint="Start the service again.")

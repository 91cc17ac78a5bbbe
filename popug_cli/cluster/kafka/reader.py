"""Read the records of a topic by their offsets."""

import time
from threading import Event, Lock

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaError, KafkaException, Message, TopicPartition

from popug_cli.bus.records import Headers, TopicRecord
from popug_cli.cluster.kafka.connection import CLIENT_NAME, KafkaConnection
from popug_cli.cluster.kafka.errors import broker_error, diagnose, error_in, open_client
from popug_cli.cluster.kafka.producer import PARTITION, closed

ANSWER_SECONDS = 10.0
POLL_SECONDS = 0.2
QUERY_SECONDS = 1.0
OPTIONS = {
    "group.id": CLIENT_NAME,  # librdkafka demands it; the group is never joined
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",
    "enable.partition.eof": True,
    "isolation.level": "read_uncommitted",  # so that another program's open transaction delays no record
    "queued.max.messages.kbytes": 16 * 1024,
    "fetch.error.backoff.ms": 100,
    "topic.metadata.propagation.max.ms": 5_000,
}
# The client looks for the coordinator of its group, for which a reader without a group needs no permission.
IGNORED_ERRORS = {KafkaError._PARTITION_EOF, KafkaError.GROUP_AUTHORIZATION_FAILED}

Records = list[tuple[int, TopicRecord]]


class RecordReader:
    """Read partition 0 of a topic; after an error begin with a new client."""

    def __init__(self, connection: KafkaConnection, topic: str) -> None:
        self._connection, self._topic = connection, topic
        self._lock, self._closing = Lock(), Event()
        self._client: _ConsumerClient | None = None

    def read(self, offset: int, limit: int, wait_seconds: float) -> Records:
        """Do what ``KafkaTopic.read`` says."""
        with self._lock:
            if self._client is None:
                self._client = _ConsumerClient(self._connection, self._topic, self._closing)
            try:
                return self._client.read(offset, limit, wait_seconds)
            except KafkaException as error:
                self._discard()
                raise broker_error(error_in(error), self._connection, self._topic) from error
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


class _ConsumerClient:
    """A client that reads on from an offset. ``_end`` is the offset at which it last met the end of the topic."""

    def __init__(self, connection: KafkaConnection, topic: str, closing: Event) -> None:
        self._connection, self._topic, self._closing = connection, topic, closing
        self._consumer, self._trouble = open_client(Consumer, connection, OPTIONS)
        self._next, self._end = -1, -1
        self._failure: KafkaError | None = None

    def read(self, offset: int, limit: int, wait_seconds: float) -> Records:
        """Return the next records, or none at the end of the topic; raise if the end cannot be found."""
        if offset != self._next:
            self._consumer.assign([TopicPartition(self._topic, PARTITION, offset)])
            self._next, self._end = offset, -1
        wait_until = time.monotonic() + wait_seconds
        give_up_at = wait_until + ANSWER_SECONDS
        while not (messages := self._poll(limit, wait_until)):
            now = time.monotonic()
            is_at_end = now >= wait_until and self._is_at(self._known_end())
            if is_at_end and (not wait_seconds or self._is_at(self._query_end())):
                return []
            if now > give_up_at:
                raise diagnose(self._consumer, self._trouble, self._connection, self._topic, ANSWER_SECONDS)
        records = [(_offset_of(message), _record_of(message)) for message in messages]
        self._next = records[-1][0] + 1
        return records

    def close(self) -> None:
        """Close the client."""
        self._consumer.close()

    def _poll(self, limit: int, wait_until: float) -> list[Message]:
        """Wait a moment for one record, then take what has arrived; raise an error that precedes the first record."""
        timeout = min(max(wait_until - time.monotonic(), 0.0), POLL_SECONDS)
        if not timeout and not self._is_at(self._known_end()):
            timeout = POLL_SECONDS
        first = self._take(self._consumer.poll(timeout))
        self._require_sound()
        if not first:
            return []
        others = self._consumer.consume(limit - 1, timeout=0) if limit > 1 else []
        return first + [message for each in others for message in self._take(each)]

    def _take(self, message: Message | None) -> list[Message]:
        """Return a message if it is a record; note the end of the topic, and an error, after which nothing is taken."""
        if message is None or self._failure is not None:
            return []
        error = message.error()
        if error is None:
            return [message]
        if error.code() == KafkaError._PARTITION_EOF:
            self._end = _offset_of(message)
        elif error.code() not in IGNORED_ERRORS:
            self._failure = error
        return []

    def _is_at(self, end: int | None) -> bool:
        """Return whether all records before an end of the topic have been read; None if the end is not known."""
        return end is not None and (end == self._next or 0 <= end <= self._end)

    def _known_end(self) -> int | None:
        """Return the offset of the topic's end by the broker's last answer."""
        return self._end_from(cached=True)

    def _query_end(self) -> int | None:
        """Return the offset of the topic's end by asking the broker; None if it does not answer now."""
        return self._end_from(cached=False)

    def _end_from(self, *, cached: bool) -> int | None:
        partition = TopicPartition(self._topic, PARTITION)
        try:
            return int(self._consumer.get_watermark_offsets(partition, timeout=QUERY_SECONDS, cached=cached)[1])
        except KafkaException:  # the loop repeats it, or finds the reason
            return None

    def _require_sound(self) -> None:
        if self._closing.is_set():
            raise closed()
        error = self._failure or (self._trouble.latest if self._trouble.is_lasting else None)
        if error is not None:
            raise broker_error(error, self._connection, self._topic)


def _offset_of(message: Message) -> int:
    offset = message.offset()
    assert offset is not None
    return offset


def _record_of(message: Message) -> TopicRecord:
    kind, stamp = message.timestamp()
    return TopicRecord(
        key=message.key(),
        value=message.value(),
        headers=_headers_of(message),
        timestamp_ms=stamp if kind == TIMESTAMP_LOG_APPEND_TIME else None,
    )


def _headers_of(message: Message) -> Headers:
    """Return the headers; none if the name of one is not UTF-8, which librdkafka's client cannot return."""
    try:
        headers = message.headers() or []
    except (SystemError, UnicodeDecodeError):
        return []
    pairs = headers.items() if isinstance(headers, dict) else headers
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in pairs]

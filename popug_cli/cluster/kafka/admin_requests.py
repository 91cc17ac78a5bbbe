"""Send requests about brokers and topics, and wait for their answers."""

import time
from concurrent.futures import Future
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata  # type: ignore[attr-defined]

from popug_cli.cluster.kafka.connection import KafkaConnection
from popug_cli.cluster.kafka.errors import NO_ANSWER, broker_error, error_in, open_client
from popug_cli.kernel.errors import PopugError

Answer = TypeVar("Answer")
SLICE_SECONDS = 0.5


class AdminRequests:
    """Requests about brokers and topics. Each raises a ``PopugError``, at once if waiting cannot help."""

    def __init__(self, connection: KafkaConnection, timeout_seconds: float) -> None:
        self._connection, self._timeout_seconds = connection, timeout_seconds
        self.client, self._trouble = open_client(AdminClient, connection, {})

    def metadata(self) -> ClusterMetadata:
        """Return what the brokers report about themselves and about all topics."""
        deadline = time.monotonic() + self._timeout_seconds
        while True:
            try:
                found: ClusterMetadata = self.client.list_topics(timeout=SLICE_SECONDS)
            except KafkaException as error:
                self.client.poll(0)
                if self._trouble.is_lasting or time.monotonic() > deadline:
                    raise self._translated(error, "") from error
            else:
                return found

    def result(self, future: Future[Answer], topic: str = "") -> Answer:
        """Return the answer to a request about a topic; raise ``KafkaException`` if the topic exists already."""
        deadline = time.monotonic() + self._timeout_seconds
        while True:
            self.client.poll(0)  # the client then calls ``error_cb``
            try:
                return future.result(SLICE_SECONDS)
            except KafkaException as error:
                if error_in(error).code() == KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
                raise self._translated(error, topic) from error
            except TimeoutError as error:
                if self._trouble.is_lasting or time.monotonic() > deadline:
                    raise self._translated(KafkaException(KafkaError(KafkaError._TIMED_OUT)), topic) from error

    def _translated(self, exception: KafkaException, topic: str) -> PopugError:
        """Return the ``PopugError`` for a failed request; the trouble of the client says more than a time-out."""
        self.client.poll(0)
        cause, trouble = error_in(exception), self._trouble
        if trouble.latest is not None and (trouble.is_lasting or cause.code() in NO_ANSWER):
            cause = trouble.latest
        return broker_error(cause, self._connection, topic)

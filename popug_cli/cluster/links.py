"""The link between the logs of services: steps of a relay and of a replicator, over the port ``Topic``.

A step ends with a commit, so a process that is killed repeats at most one step. A step sent or taken twice changes
nothing at a receiver (``bus/streams.py``).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from time import sleep
from typing import Protocol

from popug_cli.bus import relay, replicator, stream_store
from popug_cli.bus.context import Context, Runtime
from popug_cli.bus.records import TopicRecord
from popug_cli.bus.relay import MAX_CLAIM_EVENTS
from popug_cli.bus.service.history import stored_subscriptions
from popug_cli.bus.service.own_topic import read_back
from popug_cli.bus.service.restore import require_relay
from popug_cli.bus.streams import StreamVerdict
from popug_cli.identity.consumers import record_watermark
from popug_cli.identity.token_copies import IDENTITY
from popug_cli.messages.principal import ANONYMOUS
from popug_cli.storage import cluster_pause

MAX_TAKEN_RECORDS = 5_000
PAUSE_SECONDS = 0.1
Includes = Callable[[Context], Mapping[str, int]]


class Topic(Protocol):
    """The topic of one service: one partition, whose records keep their offsets.

    The methods raise a ``PopugError`` if the topic cannot be reached.
    """

    def produce(self, records: Sequence[TopicRecord]) -> None:
        """Append records in their order, and return when all are acknowledged.

        Raise an error if one is not; the topic may then have any of them, and the caller sends all again.
        """
        ...

    def read(self, offset: int, limit: int, wait_seconds: float = 0.0) -> list[tuple[int, TopicRecord]]:
        """Return the next records from an offset on, at most ``limit``, each with its offset.

        At the end of the topic, wait at most ``wait_seconds`` for a record; without one, return none.
        """
        ...

    def close(self) -> None:
        """Close the connections; calls in other threads end soon, with an error."""
        ...


def relay_once(runtime: Runtime, topic: Topic, includes: Includes, limit: int = MAX_CLAIM_EVENTS) -> bool:
    """Send the next own events of a service and a watermark; return whether the topic then has all of them.

    Before that, read what the topic has of this log. Raise ``not_a_service``, ``two_publishers`` if it has an event
    that the log lacks, or the errors of ``Topic.produce``, after which the next step sends the same events again.
    """
    read_back_once(runtime, topic)
    return send_once(runtime, topic, includes, limit)


def read_back_once(runtime: Runtime, topic: Topic) -> None:
    """Check the records of the service's own topic that are not checked yet; raise ``not_a_service``."""
    with runtime.reading(ANONYMOUS) as context:
        offset = require_relay(context).own_offset
    while records := topic.read(offset, MAX_TAKEN_RECORDS):
        with runtime.writing(ANONYMOUS) as context:
            if read_back(context, records):
                return
        offset = records[-1][0] + 1


def send_once(runtime: Runtime, topic: Topic, includes: Includes, limit: int = MAX_CLAIM_EVENTS) -> bool:
    """Do what ``relay_once`` does, without reading the topic back."""
    with runtime.writing(ANONYMOUS) as context:
        claimed = relay.claim(context, includes(context), limit)
    topic.produce(relay.records_of(claimed))
    with runtime.writing(ANONYMOUS) as context:
        relay.advance(context, claimed)
    return claimed.is_drained


def replicate_once(
    runtime: Runtime, origin: str, topic: Topic, limit: int = MAX_TAKEN_RECORDS, wait_seconds: float = 0.0
) -> Counter[StreamVerdict]:
    """Take the next records of another service's topic into the log; return their number by verdict, empty at the end.

    Wait at most ``wait_seconds`` for a record. The caller lets the consumers catch up.
    Raise ``not_a_service`` if the service does not receive that log.
    """
    with runtime.reading(ANONYMOUS) as context:
        offset = stream_store.load(context.connection, origin).next_offset
        is_paused = cluster_pause.current(context.connection, context.now) is not None
    if is_paused:
        sleep(min(wait_seconds, PAUSE_SECONDS))
        return Counter()
    if not (records := topic.read(offset, limit, wait_seconds)):
        return Counter()
    return take(runtime, origin, records)


def take(runtime: Runtime, origin: str, records: Sequence[tuple[int, TopicRecord]]) -> Counter[StreamVerdict]:
    """Take records with their offsets in one transaction, as ``replicator.take`` does; none during a pause."""
    with runtime.writing(ANONYMOUS) as context:
        if cluster_pause.current(context.connection, context.now) is not None:
            return Counter()
        verdicts = replicator.take(context, origin, records, stored_subscriptions(context, origin))
        if origin == IDENTITY:
            record_watermark(context)
        return verdicts

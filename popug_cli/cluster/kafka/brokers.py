"""The state of the brokers and of the cluster's topics, for ``popug cluster status``."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from popug_cli.cluster.kafka.admin_requests import AdminRequests
from popug_cli.cluster.kafka.connection import KafkaConnection
from popug_cli.cluster.kafka.producer import PARTITION
from popug_cli.kernel.errors import PopugError, Unavailable

STATUS_SECONDS = 5.0
ANSWER_SECONDS = 2.0
MAX_THREADS = 16


class BrokerState(NamedTuple):
    """A broker: its id, its address (``HOST:PORT``, empty if it is not known), and whether it is up."""

    id: int
    address: str
    is_up: bool


class TopicState(NamedTuple):
    """A topic: the ids of the brokers that have a replica, and of those that are up and in sync with the leader.

    ``leader`` is None if the broker that leads the partition is not up. ``end_offset`` is the offset of the next
    record, None if no broker reports it. ``exists`` is False for a topic that the brokers do not have.
    """

    name: str
    exists: bool
    leader: int | None
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]
    end_offset: int | None

    @property
    def is_under_replicated(self) -> bool:
        """Return whether a replica is missing or behind."""
        return len(self.in_sync) < len(self.replicas) or self.leader is None


class KafkaState(NamedTuple):
    """The brokers by their id, and the topics in the order in which they were asked for."""

    brokers: tuple[BrokerState, ...]
    topics: tuple[TopicState, ...]


def read_state(connection: KafkaConnection, topics: Iterable[str]) -> KafkaState:
    """Return the state of the brokers and of topics as the brokers describe it, after at most about 15 s.

    Raise ``brokers_unavailable`` if none answers.
    """
    requests = AdminRequests(connection, STATUS_SECONDS)
    metadata = requests.metadata()
    names = list(topics)
    partitions = {name: _partition_of(metadata.topics.get(name)) for name in names}
    led = [name for name, partition in partitions.items() if partition is not None and partition.leader >= 0]
    ends = _end_offsets(requests, led)
    used_ids = {broker for partition in partitions.values() if partition is not None for broker in partition.replicas}
    brokers = _broker_states(metadata.brokers, used_ids, connection)
    up = {broker.id for broker in brokers if broker.is_up}
    return KafkaState(brokers, tuple(_topic_state(name, partitions[name], up, ends.get(name)) for name in names))


def _partition_of(topic: Any) -> Any:
    return topic.partitions.get(PARTITION) if topic is not None and topic.error is None else None


def _topic_state(name: str, partition: Any, up: set[int], end_offset: int | None) -> TopicState:
    if partition is None:
        return TopicState(name, False, None, (), (), None)
    leader = partition.leader if partition.leader in up else None
    in_sync = tuple(broker for broker in partition.isrs if broker in up)
    return TopicState(name, True, leader, tuple(partition.replicas), in_sync, end_offset)


def _end_offsets(requests: AdminRequests, names: list[str]) -> dict[str, int]:
    """Return the end offsets of topics; those whose leader does not answer are left out."""
    wanted = {TopicPartition(name, PARTITION): OffsetSpec.latest() for name in names}  # type: ignore[no-untyped-call]
    futures = requests.client.list_offsets(wanted, request_timeout=STATUS_SECONDS) if names else {}
    ends: dict[str, int] = {}
    for partition, future in futures.items():
        with suppress(Unavailable):
            ends[partition.topic] = requests.result(future, partition.topic).offset
    return {name: end for name, end in ends.items() if end >= 0}


def _broker_states(known: dict[int, Any], used_ids: set[int], connection: KafkaConnection) -> tuple[BrokerState, ...]:
    """Return the brokers that the others know, and those that have a replica of a topic.

    Brokers that have lost their quorum still list brokers that are down, so each broker is asked itself. A broker that
    they do not list has no known address. If there is only one such broker, and only one configured address belongs to
    no listed broker, then that is its address.
    """
    addresses = {number: f"{broker.host}:{broker.port}" for number, broker in sorted(known.items())}
    with ThreadPoolExecutor(MAX_THREADS) as threads:
        answers = threads.map(lambda address: _answers(connection, address), addresses.values())
        states = [BrokerState(*known, is_up) for known, is_up in zip(addresses.items(), answers, strict=True)]
    unknown = sorted(used_ids - set(addresses))
    configured = [text.strip() for text in connection.address.split(",")]
    unused = [address for address in configured if address not in addresses.values()]
    is_certain = len(unknown) == len(unused) == 1 and len(configured) > 1
    address = unused[0] if is_certain else ""
    return (*states, *(BrokerState(number, address, False) for number in unknown))


def _answers(connection: KafkaConnection, address: str) -> bool:
    """Return whether the broker at an address answers."""
    alone = replace(connection, options={**connection.options, "bootstrap.servers": address})
    try:
        AdminRequests(alone, ANSWER_SECONDS).metadata()
    except PopugError:
        return False
    return True

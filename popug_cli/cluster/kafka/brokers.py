"""The state of the brokers and of the cluster's topics, for ``popug cluster status``."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from popug_cli.cluster.kafka.connection import KafkaConnection
from popug_cli.cluster.kafka.errors import error_of_request, open_client
from popug_cli.cluster.kafka.producer import PARTITION

STATUS_SECONDS = 5.0


class BrokerState(NamedTuple):
    """A broker: its id, its address (``HOST:PORT``, empty if it is not known), and whether it is up."""

    id: int
    address: str
    is_up: bool


class TopicState(NamedTuple):
    """A topic: the ids of the brokers that have a replica, and of those that are in sync with the leader.

    ``leader`` is None if no broker leads the partition; ``end_offset``, the offset of the next record, is then None.
    ``exists`` is False for a topic that the brokers do not have.
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
    admin, trouble = open_client(AdminClient, connection, {})
    try:
        metadata = admin.list_topics(timeout=STATUS_SECONDS)
    except KafkaException as error:
        raise error_of_request(error, admin, trouble, connection) from error
    names = list(topics)
    partitions = {name: _partition_of(metadata.topics.get(name)) for name in names}
    led = [name for name, partition in partitions.items() if partition is not None and partition.leader >= 0]
    ends = _end_offsets(admin, led)
    states = tuple(_topic_state(name, partitions[name], ends.get(name)) for name in names)
    used_ids = {broker for state in states for broker in state.replicas}
    return KafkaState(_broker_states(metadata.brokers, used_ids, connection), states)


def _partition_of(topic: Any) -> Any:
    return topic.partitions.get(PARTITION) if topic is not None and topic.error is None else None


def _topic_state(name: str, partition: Any, end_offset: int | None) -> TopicState:
    if partition is None:
        return TopicState(name, False, None, (), (), None)
    leader = partition.leader if partition.leader >= 0 else None
    return TopicState(name, True, leader, tuple(partition.replicas), tuple(partition.isrs), end_offset)


def _end_offsets(admin: AdminClient, names: list[str]) -> dict[str, int]:
    """Return the end offsets of topics; those whose leader does not answer are left out."""
    if not names:
        return {}
    wanted = {TopicPartition(name, PARTITION): OffsetSpec.latest() for name in names}  # type: ignore[no-untyped-call]
    futures = admin.list_offsets(wanted, request_timeout=STATUS_SECONDS)
    ends: dict[str, int] = {}
    for partition, future in futures.items():
        try:
            ends[partition.topic] = future.result(STATUS_SECONDS + 1).offset
        except (KafkaException, TimeoutError):
            continue
    return ends


def _broker_states(known: dict[int, Any], used_ids: set[int], connection: KafkaConnection) -> tuple[BrokerState, ...]:
    """Return the brokers that are up, and those that have a replica of a topic and are not up.

    The brokers do not say the address of one that is down. If there is only one such, and the settings have one address
    at which no broker is up, then that is its address.
    """
    up = {number: f"{broker.host}:{broker.port}" for number, broker in known.items()}
    down = sorted(used_ids - set(up))
    addresses = [text.strip() for text in connection.address.split(",")]
    unused = [address for address in addresses if address not in up.values()] if len(addresses) > 1 else []
    states = [BrokerState(number, address, True) for number, address in sorted(up.items())]
    if len(down) == len(unused) == 1:
        return (*states, BrokerState(down[0], unused[0], False))
    return (*states, *(BrokerState(number, "", False) for number in down))

"""Create the topics of a cluster, and check that existing ones keep its promises."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import ConfigResource, NewTopic, ResourceType  # type: ignore[attr-defined]

from popug_cli.cluster.kafka.admin_requests import AdminRequests
from popug_cli.cluster.kafka.connection import KafkaConnection
from popug_cli.cluster.kafka.errors import absence, create_command
from popug_cli.cluster.kafka.producer import MAX_RECORD_BYTES
from popug_cli.kernel.errors import Conflict, NotFound
from popug_cli.messages.topics import (
    CREATED_SETTINGS,
    FIXED_SETTINGS,
    MIN_IN_SYNC,
    PARTITIONS,
    REPLICATION_FACTOR,
)

ADMIN_SECONDS = 15.0
PROPAGATION_SECONDS = 5.0
POLL_SECONDS = 0.1
LEAST_MESSAGE_BYTES = MAX_RECORD_BYTES + 10_000  # a batch has a header, and grows if lz4 cannot compress it
IN_SYNC = "min.insync.replicas"


def create_topics(
    connection: KafkaConnection, topics: Iterable[str], replication_factor: int = REPLICATION_FACTOR
) -> list[str]:
    """Create the topics that do not exist, and return their names; existing ones stay as they are.

    A topic of one replica accepts a record that only one broker has. Raise ``brokers_unavailable``, or
    ``invalid_setting`` for a name that Kafka does not accept.
    """
    names = list(topics)
    config = {**FIXED_SETTINGS, **CREATED_SETTINGS, IN_SYNC: str(min(MIN_IN_SYNC, replication_factor))}
    new = [
        NewTopic(name, num_partitions=PARTITIONS, replication_factor=replication_factor, config=config)
        for name in names
    ]
    requests = AdminRequests(connection, ADMIN_SECONDS)
    futures = requests.client.create_topics(new, operation_timeout=ADMIN_SECONDS, request_timeout=ADMIN_SECONDS)
    created = []
    for name in names:
        try:
            requests.result(futures[name], name)
        except KafkaException:  # it exists
            continue
        created.append(name)
    return created


def delete_topics(connection: KafkaConnection, topics: Iterable[str]) -> None:
    """Delete topics with all their records; raise ``brokers_unavailable``. A topic that does not exist is no error."""
    requests, names = AdminRequests(connection, ADMIN_SECONDS), list(topics)
    futures = requests.client.delete_topics(names, operation_timeout=ADMIN_SECONDS, request_timeout=ADMIN_SECONDS)
    for name in names:
        with suppress(NotFound):
            requests.result(futures[name], name)


def check_topics(
    connection: KafkaConnection, topics: Iterable[str], replication_factor: int = REPLICATION_FACTOR
) -> None:
    """Raise ``topics_differ``, with every difference, if a topic is missing or lacks what the cluster promises.

    More replicas than ``replication_factor`` are accepted. Raise ``brokers_unavailable``.
    """
    names = list(dict.fromkeys(topics))
    requests = AdminRequests(connection, ADMIN_SECONDS)
    found = _found_topics(requests, names)
    present = [name for name in names if name in found]
    differences = {name: [absence(connection)] for name in names if name not in present}
    for name in present:
        differences[name] = [
            *_layout_differences(found[name].partitions, replication_factor),
            *_setting_differences(_settings_of(requests, name), replication_factor),
        ]
    faulty = {name: faults for name, faults in differences.items() if faults}
    if faulty:
        sentences = "; ".join(f"{name}: {', '.join(faults)}" for name, faults in sorted(faulty.items()))
        raise Conflict(
            "topics_differ",
            f"Topics of the cluster are not as they must be. {sentences}.",
            hint=_hint(faulty, connection),
            details={"topics": {name: list(faults) for name, faults in sorted(faulty.items())}},
        )


def _found_topics(requests: AdminRequests, names: list[str]) -> dict[str, Any]:
    """Return the topics that exist, by name. One that was just created may be unknown to a broker for a moment."""
    deadline = time.monotonic() + PROPAGATION_SECONDS
    while True:
        topics = requests.metadata().topics
        found = {name: topics[name] for name in names if name in topics and topics[name].error is None}
        if len(found) == len(names) or time.monotonic() > deadline:
            return found
        time.sleep(POLL_SECONDS)


def _settings_of(requests: AdminRequests, name: str) -> dict[str, str]:
    """Return the effective settings of a topic; wait for a broker that does not know it yet."""
    deadline = time.monotonic() + PROPAGATION_SECONDS
    resource = ConfigResource(ResourceType.TOPIC, name)
    while True:
        future = requests.client.describe_configs([resource], request_timeout=ADMIN_SECONDS)[resource]
        try:
            return {key: str(entry.value) for key, entry in requests.result(future, name).items()}
        except NotFound:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)


def _layout_differences(partitions: Mapping[int, Any], replication_factor: int) -> Iterator[str]:
    if len(partitions) != PARTITIONS:
        yield f"it has {len(partitions)} partitions instead of {PARTITIONS}"
    replicas = min((len(partition.replicas) for partition in partitions.values()), default=0)
    if replicas < replication_factor:
        yield f"its replication factor is {replicas} instead of {replication_factor}"


def _setting_differences(values: Mapping[str, str], replication_factor: int) -> Iterator[str]:
    for key, expected in FIXED_SETTINGS.items():
        if values.get(key, "").lower() != expected.lower():
            yield f"{key} is {values.get(key, 'not set')} instead of {expected}"
    minimums = {IN_SYNC: min(MIN_IN_SYNC, replication_factor), "max.message.bytes": LEAST_MESSAGE_BYTES}
    for key, minimum in minimums.items():
        if int(values.get(key) or 0) < minimum:
            yield f"{key} is {values.get(key, 'not set')}, and must be at least {minimum}"


def _hint(faulty: Mapping[str, list[str]], connection: KafkaConnection) -> str:
    """Return the command of Kafka that corrects the first topic."""
    name, faults = sorted(faulty.items())[0]
    if faults == [absence(connection)]:
        return f"Create it: {create_command(name, connection)}"
    server = f"--bootstrap-server {connection.address}"
    if any(fault.startswith("it") for fault in faults):
        return (
            f"Run `kafka-topics.sh {server} --delete --topic {name}`, and create it again:"
            f" {create_command(name, connection)}"
        )
    settings = {**FIXED_SETTINGS, **CREATED_SETTINGS, IN_SYNC: str(MIN_IN_SYNC)}
    config = ",".join(f"{key}={value}" for key, value in settings.items() if _is_named(key, faults))
    return f"Run `kafka-configs.sh {server} --alter --entity-type topics --entity-name {name} --add-config {config}`."


def _is_named(key: str, faults: list[str]) -> bool:
    return any(fault.startswith(f"{key} ") for fault in faults)

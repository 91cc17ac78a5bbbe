"""Create the topics of a cluster, and check that existing ones keep its promises."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType  # type: ignore[attr-defined]

from popug_cli.cluster.kafka.connection import KafkaConnection
from popug_cli.cluster.kafka.errors import ClientTrouble, create_command, error_in, error_of_request, open_client
from popug_cli.cluster.kafka.producer import MAX_RECORD_BYTES
from popug_cli.kernel.errors import Conflict, PopugError
from popug_cli.messages.topics import (
    CREATED_SETTINGS,
    FIXED_SETTINGS,
    MIN_IN_SYNC,
    PARTITIONS,
    REPLICATION_FACTOR,
)

ADMIN_SECONDS = 20.0
KNOWN_SECONDS, KNOWN_POLL_SECONDS = 15.0, 0.2
MAY_BE_UNKNOWN_YET = ("topics_differ", "topic_missing")
MINIMUMS = {"max.message.bytes": MAX_RECORD_BYTES + 10_000}  # a batch has a header, and what lz4 cannot shorten grows


def create_topics(
    connection: KafkaConnection, topics: Iterable[str], replication_factor: int = REPLICATION_FACTOR
) -> list[str]:
    """Create the topics that do not exist, and return their names; existing ones stay as they are.

    With fewer than two replicas, a topic accepts a record that only one has. Raise ``brokers_unavailable``.
    """
    names = list(topics)
    config = {**FIXED_SETTINGS, **CREATED_SETTINGS, "min.insync.replicas": str(min(MIN_IN_SYNC, replication_factor))}
    new = [
        NewTopic(name, num_partitions=PARTITIONS, replication_factor=replication_factor, config=config)
        for name in names
    ]
    admin, trouble = open_client(AdminClient, connection, {})
    results = admin.create_topics(new, operation_timeout=ADMIN_SECONDS, request_timeout=ADMIN_SECONDS)
    created = []
    for name in names:
        try:
            results[name].result(ADMIN_SECONDS + 5)
            created.append(name)
        except KafkaException as error:
            if error_in(error).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise error_of_request(error, admin, trouble, connection, name) from error
    return created


def ensure_topics(
    connection: KafkaConnection, topics: Iterable[str], replication_factor: int = REPLICATION_FACTOR
) -> None:
    """Create the topics that do not exist, and check all; raise the errors of ``check_topics``.

    A broker learns of a new topic some time after another one has created it, so a topic of this call may seem to be
    missing for ``KNOWN_SECONDS``.
    """
    names = list(topics)
    created = create_topics(connection, names, replication_factor)
    deadline = time.monotonic() + (KNOWN_SECONDS if created else 0)
    while True:
        try:
            check_topics(connection, names, replication_factor)
        except PopugError as error:
            if error.code not in MAY_BE_UNKNOWN_YET or time.monotonic() > deadline:
                raise
            time.sleep(KNOWN_POLL_SECONDS)
        else:
            return


def delete_topics(connection: KafkaConnection, topics: Iterable[str]) -> None:
    """Delete topics with all their records; raise ``brokers_unavailable``. A topic that does not exist is no error."""
    names = list(topics)
    admin, trouble = open_client(AdminClient, connection, {})
    results = admin.delete_topics(names, operation_timeout=ADMIN_SECONDS, request_timeout=ADMIN_SECONDS)
    for name in names:
        try:
            results[name].result(ADMIN_SECONDS + 5)
        except KafkaException as error:
            if error_in(error).code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise error_of_request(error, admin, trouble, connection, name) from error


def check_topics(
    connection: KafkaConnection, topics: Iterable[str], replication_factor: int = REPLICATION_FACTOR
) -> None:
    """Raise ``topics_differ``, with every difference, if a topic is missing or lacks what the cluster promises.

    More replicas than ``replication_factor`` are accepted. Raise ``brokers_unavailable``.
    """
    names = list(topics)
    admin, trouble = open_client(AdminClient, connection, {})
    try:
        found = admin.list_topics(timeout=ADMIN_SECONDS).topics
    except KafkaException as error:
        raise error_of_request(error, admin, trouble, connection) from error
    present = [name for name in names if name in found and found[name].error is None]
    values = _settings_of(admin, trouble, connection, present)
    differences: dict[str, list[str]] = {name: ["it does not exist"] for name in names if name not in present}
    for name in present:
        differences[name] = [
            *_layout_differences(found[name].partitions, replication_factor),
            *_setting_differences(values[name], replication_factor),
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


def _settings_of(
    admin: AdminClient, trouble: ClientTrouble, connection: KafkaConnection, names: list[str]
) -> dict[str, dict[str, str]]:
    """Return the effective settings of topics."""
    resources = {name: ConfigResource(ResourceType.TOPIC, name) for name in names}
    if not resources:
        return {}
    futures = admin.describe_configs(list(resources.values()), request_timeout=ADMIN_SECONDS)
    values: dict[str, dict[str, str]] = {}
    for name, resource in resources.items():
        try:
            entries = futures[resource].result(ADMIN_SECONDS + 5)
        except KafkaException as error:
            raise error_of_request(error, admin, trouble, connection, name) from error
        values[name] = {key: str(entry.value) for key, entry in entries.items()}
    return values


def _layout_differences(partitions: Mapping[int, Any], replication_factor: int) -> Iterator[str]:
    if len(partitions) != 1:
        yield f"it has {len(partitions)} partitions instead of 1"
    replicas = min((len(partition.replicas) for partition in partitions.values()), default=0)
    if replicas < replication_factor:
        yield f"its replication factor is {replicas} instead of {replication_factor}"


def _setting_differences(values: Mapping[str, str], replication_factor: int) -> Iterator[str]:
    for key, expected in FIXED_SETTINGS.items():
        if values.get(key, "").lower() != expected.lower():
            yield f"{key} is {values.get(key, 'not set')} instead of {expected}"
    for key, minimum in {"min.insync.replicas": min(MIN_IN_SYNC, replication_factor), **MINIMUMS}.items():
        if int(values.get(key) or 0) < minimum:
            yield f"{key} is {values.get(key, 'not set')}, and must be at least {minimum}"


def _hint(faulty: Mapping[str, list[str]], connection: KafkaConnection) -> str:
    """Return the command of Kafka that corrects the first topic."""
    name, faults = sorted(faulty.items())[0]
    if faults == ["it does not exist"]:
        return f"Create it: {create_command(name, connection)}"
    server = f"--bootstrap-server {connection.address}"
    if any(fault.startswith("it") for fault in faults):
        return (
            f"Run `kafka-topics.sh {server} --delete --topic {name}`, and create it again:"
            f" {create_command(name, connection)}"
        )
    config = ",".join(
        f"{key}={value}"
        for key, value in {**FIXED_SETTINGS, "min.insync.replicas": str(MIN_IN_SYNC), **CREATED_SETTINGS}.items()
        if any(fault.startswith(f"{key} ") for fault in faults)
    )
    return f"Run `kafka-configs.sh {server} --alter --entity-type topics --entity-name {name} --add-config {config}`."

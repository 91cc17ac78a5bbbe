"""The topics of a cluster: their settings, and the events that a service sends to its own and stores of the others.

A service sends what its module publishes, the events of the bus about its own consumers, and changes of the settings
in its home.
"""

from collections.abc import Iterable, Mapping

from popug_cli.messages.base import EVENTS, Event
from popug_cli.messages.bus import DeadLetterDropped, DeadLetterRetried, ReadModelsRebuilt
from popug_cli.messages.identity import SettingChanged
from popug_cli.messages.services import SERVICES

PARTITIONS = 1  # so that the order of a publisher's log is the order of its topic
REPLICATION_FACTOR = 3
MIN_IN_SYNC = 2
RETENTION_MS = 7 * 24 * 3600 * 1000
MAX_MESSAGE_BYTES = 1_048_588  # of a batch of records
# Kafka's names and values: https://kafka.apache.org/documentation/#topicconfigs
FIXED_SETTINGS: Mapping[str, str] = {
    "unclean.leader.election.enable": "false",
    "cleanup.policy": "delete",
    "message.timestamp.type": "LogAppendTime",
}
CREATED_SETTINGS: Mapping[str, str] = {
    "retention.ms": str(RETENTION_MS),
    "max.message.bytes": str(MAX_MESSAGE_BYTES),
}
REBUILDING_SERVICES = frozenset({"analytics"})


def published_events(service: str) -> list[type[Event]]:
    """Return all versions of the events that a service sends to its topic, by type."""
    shared: set[type[Event]] = {SettingChanged}
    if SERVICES[service].consumers:
        shared |= {DeadLetterRetried, DeadLetterDropped}
    if service in REBUILDING_SERVICES:
        shared.add(ReadModelsRebuilt)
    return _by_type(shape for shape in EVENTS.values() if f"/popug/{service}" == shape.SOURCE or shape in shared)


def received_events(service: str, origin: str) -> list[type[Event]]:
    """Return all versions of the events of ``origin`` that a service stores, by type."""
    names = SERVICES[service].subscriptions[origin]
    return _by_type(shape for shape in EVENTS.values() if shape.TYPE.rpartition(".v")[0] in names)


def _by_type(shapes: Iterable[type[Event]]) -> list[type[Event]]:
    return sorted(shapes, key=lambda shape: shape.TYPE)

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
# Kafka's names and values: https://kafka.apache.org/documentation/#topicconfigs
TOPIC_SETTINGS: Mapping[str, str] = {
    "cleanup.policy": "delete",
    "message.timestamp.type": "LogAppendTime",
    "min.insync.replicas": "2",
    "retention.ms": str(7 * 24 * 60 * 60 * 1000),
    "unclean.leader.election.enable": "false",
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

"""Answers of `popug cluster init`, `backup`, `restore`, `doctor`, `republish` and `status`."""

import msgspec

from popug_cli.messages.bus import BusStatus
from popug_cli.messages.company import Check


class ServicePlace(msgspec.Struct, frozen=True):
    """Where the parts of a service are: its home, its PostgreSQL database or its file, and its topic."""

    service: str
    home: str
    database: str
    topic: str


class ClusterCreated(msgspec.Struct, frozen=True):
    """The cluster that a company became: its places, and the log with which all services begin.

    ``head`` is the head of the log's hash chain. ``resumed`` means that an earlier attempt had sealed the home already.
    """

    cluster: str
    prefix: str
    source: str
    events: int
    head: str
    resumed: bool
    services: list[ServicePlace]


class Republished(msgspec.Struct, frozen=True):
    """How many events of a service are sent again, from the position ``first`` on."""

    service: str
    first: int
    events: int


class ClusterCheck(Check, frozen=True):
    """A check of a cluster; ``service`` is empty for one that compares services with each other."""

    service: str = ""


class ClusterHealth(msgspec.Struct, frozen=True):
    """The results of all checks of a cluster. ``heads`` has the head of each service's hash chain."""

    ok: bool
    attention: bool
    checks: list[ClusterCheck]
    heads: dict[str, str]


class ClusterBackup(msgspec.Struct, frozen=True):
    """A backup of all services: its directory, its size, and the last position of each log."""

    path: str
    bytes: int
    positions: dict[str, int]


class ClusterRestored(msgspec.Struct, frozen=True):
    """The services that began a new life, the id of their cluster, and how many mails are held."""

    source: str
    cluster: str
    held_mails: int
    services: list[ServicePlace]


class ServiceReport(msgspec.Struct, frozen=True):
    """One service: whether its server answers, the status of its log, and what is set aside.

    ``status`` is None if the database does not answer; ``problem`` then says why. ``at_stake_cents`` is the money in
    the events that billing has set aside.
    """

    service: str
    is_served: bool
    problem: str | None
    status: BusStatus | None
    at_stake_cents: int


class BrokerReport(msgspec.Struct, frozen=True):
    """A broker: its id, its address (empty if it is not known), and whether it is up."""

    id: int
    address: str
    is_up: bool


class TopicReport(msgspec.Struct, frozen=True):
    """A topic: whether it exists, how many replicas it has and how many are in sync, and the offset of its end."""

    topic: str
    exists: bool
    replicas: int
    in_sync: int
    end_offset: int | None


class HostReport(msgspec.Struct, frozen=True):
    """A PostgreSQL server, and how many bytes it is behind the primary.

    ``role`` is ``primary``, ``standby``, ``unreachable``, or ``unknown`` if the server refuses a session.
    """

    address: str
    role: str
    lag_bytes: int | None


class ClusterReport(msgspec.Struct, frozen=True):
    """The state of a whole cluster; ``problems`` are sentences for people.

    ``is_intact`` is False if a log changed or a gap lasts, ``is_complete`` if no broker answers, a topic is not as it
    must be, or a database cannot be read.
    """

    prefix: str
    services: list[ServiceReport]
    brokers: list[BrokerReport]
    topics: list[TopicReport]
    databases: list[HostReport]
    problems: list[str]
    is_intact: bool
    is_complete: bool

"""Answers of the operator's commands on a cluster: `popug cluster init`, `backup`, `restore`, `doctor`, `republish`."""

import msgspec

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

"""The state of a whole cluster for its operator, read from the databases, the brokers and the servers themselves."""

from collections.abc import Iterator
from contextlib import closing

from msgspec.structs import replace

from popug_cli.app.asking import CompanySnapshot
from popug_cli.app.local_backend import LocalBackend
from popug_cli.bus.service.status import gap_problems, history_problems, service_status
from popug_cli.bus.status import bus_status
from popug_cli.client.address import Address
from popug_cli.client.http import connect
from popug_cli.cluster.places import Places
from popug_cli.cluster.service_clients import addresses_from
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.settings import Settings
from popug_cli.messages.bus import BusStatus
from popug_cli.messages.cluster import (
    BrokerReport,
    ClusterReport,
    HostReport,
    ServiceReport,
    TopicReport,
)
from popug_cli.messages.internal.billing import GetAmountsAtStake
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.services import SERVICES

PRIMARY, STANDBY, UNKNOWN, UNREACHABLE = "primary", "standby", "unknown", "unreachable"


def cluster_status(settings: Settings, places: Places) -> ClusterReport:
    """Return the state of all parts of a cluster; a part that does not answer is a problem of the report.

    Raise ``invalid_server``, ``invalid_setting`` or ``invalid_url``.
    """
    addresses = addresses_from(settings, places)
    reports, are_intact = zip(*(_service(places, name, addresses[name]) for name in SERVICES), strict=True)
    brokers, topics, kafka_problems, is_sound = _kafka(settings, places)
    databases = _databases(places)
    problems = [
        *(problem for report in reports for problem in _problems_of(report)),
        *kafka_problems,
        *(f"The PostgreSQL server {host.address} does not answer." for host in databases if host.role == UNREACHABLE),
    ]
    return ClusterReport(
        prefix=places.prefix,
        services=list(reports),
        brokers=brokers,
        topics=topics,
        databases=databases,
        problems=problems,
        is_intact=all(are_intact),
        is_complete=is_sound and all(report.status for report in reports),
    )


def _service(places: Places, service: str, address: Address) -> tuple[ServiceReport, bool]:
    """Return the report of a service, and whether it has received all that it should, of unchanged histories."""
    is_served = _answers(address)
    home, url = places.home_of(service), places.database_of(service)
    try:
        with closing(LocalBackend(home, database_url=url, from_file=not url)) as backend:
            status, is_intact = _bus_status(backend)
            at_stake_cents = _at_stake_cents(backend) if service == "billing" else 0
    except PopugError as error:
        return ServiceReport(service, is_served, error.message, None, 0), True
    return ServiceReport(service, is_served, None, status, at_stake_cents), is_intact


def _bus_status(backend: LocalBackend) -> tuple[BusStatus, bool]:
    with backend.runtime.reading(OPERATOR) as context:
        consumers = sorted(backend.consumers, key=lambda consumer: consumer.name)
        status = bus_status(context, consumers)
        losses = [*gap_problems(context), *history_problems(context)]
        problems = [*status.problems, *losses]
        return replace(status, problems=problems, service=service_status(context, consumers)), not losses


def _at_stake_cents(backend: LocalBackend) -> int:
    with backend.runtime.reading(OPERATOR) as context:
        return sum(CompanySnapshot(context).ask(GetAmountsAtStake()).cents.values())


def _answers(address: Address) -> bool:
    """Return whether a server listens at an address."""
    try:
        connect(address).close()
    except OSError:
        return False
    return True


def _problems_of(report: ServiceReport) -> Iterator[str]:
    if not report.is_served:
        yield f"No server of {report.service} answers."
    if report.problem is not None:
        yield f"{report.service}: {report.problem}"
    if report.status is not None:
        yield from (f"{report.service}: {problem}" for problem in report.status.problems)


def _kafka(settings: Settings, places: Places) -> tuple[list[BrokerReport], list[TopicReport], list[str], bool]:
    """Return the brokers, the topics, the problems, and whether a broker answers and all topics are as they must be."""
    from popug_cli.cluster.kafka import require_driver

    require_driver()
    from popug_cli.cluster.kafka.brokers import read_state
    from popug_cli.cluster.kafka.connection import connection_from
    from popug_cli.cluster.kafka.topics import check_topics

    names = [places.topic_of(service) for service in SERVICES]
    try:
        connection = connection_from(settings, places.brokers)
        state = read_state(connection, names)
    except PopugError as error:
        return [], [], [f"{error.message} {error.hint}"], False
    brokers = [BrokerReport(broker.id, broker.address, broker.is_up) for broker in state.brokers]
    topics = [
        TopicReport(topic.name, topic.exists, len(topic.replicas), len(topic.in_sync), topic.end_offset)
        for topic in state.topics
    ]
    problems = [f"The broker {broker.address or broker.id} is down." for broker in brokers if not broker.is_up]
    try:
        check_topics(connection, names)
    except PopugError as error:
        return brokers, topics, [*problems, f"{error.message} {error.hint}"], False
    return brokers, topics, problems, True


def _databases(places: Places) -> list[HostReport]:
    if not places.database:
        return []
    from popug_cli.storage.postgres.hosts import states_of_hosts

    states = states_of_hosts(places.database_of("identity"))
    primary = next((state.wal_bytes for state in states if state.is_standby is False), None)
    reports = []
    for state in states:
        role = STANDBY if state.is_standby else PRIMARY
        if state.is_standby is None:
            role = UNKNOWN if state.answers else UNREACHABLE
        lag_bytes = None
        if state.is_standby and primary is not None and state.wal_bytes is not None:
            lag_bytes = max(0, primary - state.wal_bytes)
        reports.append(HostReport(state.address, role, lag_bytes))
    return reports

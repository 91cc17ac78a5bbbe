"""The screen of `popug cluster status`."""

from collections.abc import Iterator, Mapping

from popug_cli.cli.output.blocks import Block, Column, Hint, Table
from popug_cli.kernel.money import format_cents
from popug_cli.kernel.text import counted
from popug_cli.messages.bus import StreamStatus
from popug_cli.messages.cluster import ClusterReport, ServiceReport

NOT_KNOWN = "?"


def report_blocks(report: ClusterReport) -> Iterator[Block]:
    """Return a table of the services, one line each for brokers, topics and databases, and the problems."""
    heads = {each.service: each.status.last_sequence for each in report.services if each.status}
    names = ("head", "to send", "to receive", "to process", "gaps", "waiting", "dead", "at stake")
    columns = [Column("service"), Column("server"), *(Column(name, align_right=True) for name in names)]
    yield Table(columns, [_row(service, heads) for service in report.services])
    yield from _broker_lines(report)
    if report.databases:
        hosts = (f"{host.address} {host.role}{_lag(host.lag_bytes)}" for host in report.databases)
        yield f"PostgreSQL: {', '.join(hosts)}."
    yield from report.problems
    if any(map(_dead, report.services)):
        yield Hint("Next: popug events dead")


def _row(report: ServiceReport, heads: Mapping[str, int]) -> list[str]:
    """Return the cells of a service. It has still to receive what the other logs have after its watermarks."""
    server = "up" if report.is_served else "down"
    status = report.status
    if status is None or status.service is None:
        return [report.service, server, *[NOT_KNOWN] * 8]
    streams = status.service.streams
    at_stake = format_cents(report.at_stake_cents) if report.at_stake_cents else ""
    numbers = (
        status.last_sequence,
        status.service.relay.waiting,
        sum(max(0, heads.get(stream.origin, 0) - stream.watermark) for stream in streams),
        sum(stream.behind for stream in streams),
        sum(map(_has_gap, streams)),
        sum(consumer.waiting for consumer in status.consumers),
        _dead(report),
    )
    return [report.service, server, *map(str, numbers), at_stake]


def _broker_lines(report: ClusterReport) -> Iterator[str]:
    if not report.brokers:
        yield "Kafka: no broker answers."
        return
    up = sum(broker.is_up for broker in report.brokers)
    in_sync = sum(topic.in_sync for topic in report.topics)
    replicas = sum(topic.replicas for topic in report.topics)
    yield (
        f"Kafka: {up} of {counted(len(report.brokers), 'broker')} up; {counted(len(report.topics), 'topic')},"
        f" {in_sync} of {counted(replicas, 'replica')} in sync."
    )


def _lag(lag_bytes: int | None) -> str:
    return "" if lag_bytes is None else f" ({lag_bytes:,} bytes behind)"


def _has_gap(stream: StreamStatus) -> bool:
    return stream.gap_since is not None or stream.history_change is not None


def _dead(report: ServiceReport) -> int:
    return sum(consumer.dead for consumer in report.status.consumers) if report.status else 0

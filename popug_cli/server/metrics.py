"""The metrics of a server for Prometheus (https://prometheus.io/docs/instrumenting/writing_exporters/).

They have numbers, and no names but those of modules, messages and services. The module needs prometheus-client.
"""

from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    Info,
    Metric,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

from popug_cli.app.hosting.measurements import MAX_LAG_POSITIONS, Measurements, StreamMeasurement, measure
from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.stored_values import InvalidStoredValue

GATEWAY = "gateway"
DURATION_BUCKETS_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class Metrics:
    """The metrics of a server that holds a company open, or of a gateway; ``render`` may be called in any thread."""

    def __init__(self, company: ServedCompany | None, version: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        service = GATEWAY if company is None else company.runtime.service
        Info("popug", "The version of the server, and the service that it is.", registry=self._registry).info(
            {"version": version, "service": service}
        )
        self.durations = Histogram(
            "popug_request_duration_seconds",
            "The time from the head of a request to the end of its response, by message.",
            ["message"],
            registry=self._registry,
            buckets=DURATION_BUCKETS_SECONDS,
        )
        self.responses = Counter(
            "popug_responses",
            "The responses by HTTP status; none if the client received no response.",
            ["status"],
            registry=self._registry,
        )
        if company is not None:
            self._registry.register(CompanyCollector(company))
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def render(self, accepted: str) -> tuple[bytes, str]:
        """Return all metrics and their media type, in the format that a header ``Accept`` prefers."""
        encode, media_type = choose_encoder(accepted)
        return encode(self._registry), media_type


class CompanyCollector:
    """Reads the measurements of a company at each scrape; if that fails, only ``popug_database_up`` says so."""

    def __init__(self, company: ServedCompany) -> None:
        self._company = company

    def describe(self) -> Iterator[Metric]:
        """Yield nothing, so that the registration reads no database."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        try:
            found = measure(self._company)
        except (PopugError, InvalidStoredValue):
            found = None
        leader = "Whether this process does the work that one process of a service does for all."
        yield _gauge("popug_leader", leader, self._company.is_leader())
        yield _gauge("popug_database_up", "Whether this scrape could read the database.", found is not None)
        if found is not None:
            yield _gauge("popug_log_head", "The position of the last event of the log.", found.log_head)
            yield from _consumer_metrics(found)
            yield from _module_metrics(found)
            yield from _relay_metrics(found)
            yield from _stream_metrics(found.streams)


def _consumer_metrics(found: Measurements) -> Iterator[Metric]:
    position = _by_label("popug_consumer_position", "The position up to which a consumer is done.", "consumer")
    pending = _by_label(
        "popug_consumer_pending_events",
        f"The events to process that are among the next {MAX_LAG_POSITIONS:,} after the consumer's position.",
        "consumer",
    )
    waiting = _by_label(
        "popug_consumer_waiting_events", "The events that wait for a retry, or behind one that failed.", "consumer"
    )
    dead = _by_label("popug_consumer_dead_letters", "The dead letters.", "consumer")
    for consumer in found.consumers:
        label = [consumer.consumer]
        position.add_metric(label, consumer.position)
        pending.add_metric(label, consumer.lag)
        waiting.add_metric(label, consumer.waiting)
        dead.add_metric(label, consumer.dead)
    yield from (position, pending, waiting, dead)


def _module_metrics(found: Measurements) -> Iterator[Metric]:
    if found.mails is not None:
        yield _gauge("popug_mails_queued", "The mails to be sent, also those that are held.", found.mails.unsent)
        yield _gauge("popug_mails_held", "The mails that are held back after a restore.", found.mails.held)
        yield _gauge("popug_mails_failed", "The mails that failed permanently.", found.mails.failed)
    if found.days_open is not None:
        yield _gauge("popug_days_open", "The days up to today, included, that are not closed.", found.days_open)


def _relay_metrics(found: Measurements) -> Iterator[Metric]:
    if found.relay_position is not None:
        relayed = "The position of the log up to which the topic has the service's events."
        yield _gauge("popug_relay_position", relayed, found.relay_position)
        stopped = "Whether the relay sends nothing, because another database publishes as this service."
        yield _gauge("popug_relay_stopped", stopped, found.is_relay_stopped)


def _stream_metrics(streams: list[StreamMeasurement]) -> Iterator[Metric]:
    if not streams:
        return
    received = _by_label("popug_stream_received_position", "The position in the publisher's log that is received.")
    behind = _by_label("popug_stream_behind_seconds", "The age of the newest watermark; about 1 s if all is well.")
    gap = _by_label("popug_stream_gap_seconds", "The time since an event has been missing; 0 if none is.")
    stopped = _by_label("popug_stream_stopped", "Whether a stream takes nothing, as its publisher's history changed.")
    ignored = CounterMetricFamily(
        "popug_stream_ignored_records",
        "The records of a topic that are mangled, or of another log than the publisher's.",
        labels=["origin", "reason"],
    )
    for stream in streams:
        label = [stream.origin]
        received.add_metric(label, stream.received)
        if stream.behind_seconds is not None:
            behind.add_metric(label, stream.behind_seconds)
        gap.add_metric(label, stream.gap_seconds)
        stopped.add_metric(label, float(stream.is_stopped))
        ignored.add_metric([stream.origin, "mangled"], stream.mangled)
        ignored.add_metric([stream.origin, "other_log"], stream.other_log)
    yield from (received, behind, gap, stopped, ignored)


def _gauge(name: str, description: str, value: float) -> Metric:
    return GaugeMetricFamily(name, description, value=float(value))


def _by_label(name: str, description: str, label: str = "origin") -> GaugeMetricFamily:
    return GaugeMetricFamily(name, description, labels=[label])

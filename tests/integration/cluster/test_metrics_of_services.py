"""The metrics and the readiness of a service: its relay, its streams, and what does not make it unready."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from popug_cli.app.hosting.measurements import StreamMeasurement, measure
from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.bus.streams import ChangeReason, HistoryChange
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.services import SERVICES
from popug_cli.messages.tasks import AddTask
from popug_cli.server.metrics import Metrics
from tests.integration.cluster.linked_company import LinkedCompany
from tests.support.running_server import RunningServer

CHANGE = HistoryChange(
    reason=ChangeReason.OTHER_ID, position=3, held_id="a", its_id="b", found_at=datetime(2026, 3, 2, tzinfo=UTC)
)


@pytest.fixture
def linked(tmp_path: Path) -> Iterator[LinkedCompany]:
    linked = LinkedCompany(tmp_path)
    linked.company.clock.instant = datetime.now(UTC)  # a server reads the clock of the machine
    linked.settle()
    yield linked
    linked.close()


def streams_of(linked: LinkedCompany, service: str) -> dict[str, StreamMeasurement]:
    with closing(ServedCompany(linked.homes[service], threads=1)) as company:
        return {stream.origin: stream for stream in measure(company).streams}


def samples_of(linked: LinkedCompany, service: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return the labels and values by name."""
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    with closing(ServedCompany(linked.homes[service], threads=1)) as company:
        text = Metrics(company, "0.1.0").render("")[0].decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


def store_change(linked: LinkedCompany, service: str, statement: str, *values: object) -> None:
    with linked.services[service].runtime.writing(OPERATOR) as context:
        context.connection.execute(statement, *values)


def test_relay_position_follows_the_log(linked: LinkedCompany) -> None:
    before = samples_of(linked, "tasks")
    assert before["popug_relay_position"] == before["popug_log_head"]
    linked.act("boss", AddTask(title="Feed the cage"))
    behind = samples_of(linked, "tasks")
    assert behind["popug_relay_position"] == before["popug_relay_position"]
    assert behind["popug_log_head"] != before["popug_log_head"]
    linked.relay("tasks")
    after = samples_of(linked, "tasks")
    assert after["popug_relay_position"] == after["popug_log_head"]
    assert after["popug_relay_stopped"] == [({}, 0)]


def test_received_position_is_that_of_the_publisher(linked: LinkedCompany) -> None:
    linked.act("boss", AddTask(title="Feed the cage"))
    linked.settle()
    for service, parts in SERVICES.items():
        streams = streams_of(linked, service)
        assert set(streams) == set(parts.subscriptions)
        for origin, stream in streams.items():
            assert stream.received == linked.head(origin)
            assert stream.behind_seconds is not None
            assert 0 <= stream.behind_seconds < 300
            assert (stream.gap_seconds, stream.is_stopped, stream.mangled, stream.other_log) == (0, False, 0, 0)


def test_age_of_the_watermark_grows_without_one(linked: LinkedCompany) -> None:
    store_change(linked, "billing", "UPDATE bus_streams SET stamped_at = '2026-01-01T00:00:00Z' WHERE origin = 'tasks'")
    age = streams_of(linked, "billing")["tasks"].behind_seconds
    assert age is not None
    assert age > 24 * 3600


def test_stream_without_a_watermark_has_no_age(linked: LinkedCompany) -> None:
    store_change(linked, "billing", "UPDATE bus_streams SET stamped_at = NULL WHERE origin = 'tasks'")
    ages = samples_of(linked, "billing")["popug_stream_behind_seconds"]
    assert [labels["origin"] for labels, _ in ages] == ["identity"]


def test_clock_of_the_broker_ahead_makes_no_negative_age(linked: LinkedCompany) -> None:
    store_change(linked, "billing", "UPDATE bus_streams SET stamped_at = '2999-01-01T00:00:00Z' WHERE origin = 'tasks'")
    assert streams_of(linked, "billing")["tasks"].behind_seconds == 0


def test_gap_is_measured_until_it_is_filled(linked: LinkedCompany) -> None:
    lost = len(linked.topics["tasks"].records)
    linked.act("boss", AddTask(title="Feed the cage"))
    linked.relay("tasks", limit=1)
    linked.topics["tasks"].lose(lost)
    linked.act("boss", AddTask(title="Clean the cage"))
    linked.company.clock.advance(seconds=-120)
    linked.copy("tasks")
    assert streams_of(linked, "billing")["tasks"].gap_seconds > 100
    assert streams_of(linked, "billing")["identity"].gap_seconds == 0


def test_only_the_module_of_a_service_is_measured(linked: LinkedCompany) -> None:
    names = {service: set(samples_of(linked, service)) for service in SERVICES}
    assert {service for service in SERVICES if "popug_mails_queued" in names[service]} == {"mail"}
    assert {service for service in SERVICES if "popug_days_open" in names[service]} == {"billing"}
    assert all("popug_relay_position" in names[service] for service in SERVICES)
    consumers = {labels["consumer"] for labels, _ in samples_of(linked, "tasks")["popug_consumer_position"]}
    assert consumers == {"tasks", "tokens"}


def test_service_is_named_and_leads_when_it_is_elected(linked: LinkedCompany) -> None:
    samples = samples_of(linked, "tasks")
    assert samples["popug_info"] == [({"service": "tasks", "version": "0.1.0"}, 1)]
    assert samples["popug_leader"] == [({}, 0)]
    with closing(ServedCompany(linked.homes["tasks"], threads=1)) as company:
        company.is_leader = lambda: True
        assert b"\npopug_leader 1.0\n" in Metrics(company, "0.1.0").render("")[0]


def test_damaged_stream_is_a_database_that_is_not_up(linked: LinkedCompany) -> None:
    store_change(linked, "billing", "UPDATE bus_streams SET includes = 'x'")
    samples = samples_of(linked, "billing")
    assert samples["popug_database_up"] == [({}, 0)]
    assert "popug_log_head" not in samples


def test_service_with_stream_problems_is_ready(linked: LinkedCompany) -> None:
    store_change(
        linked,
        "tasks",
        "UPDATE bus_streams SET gap_since = '2026-01-01T00:00:00Z', stamped_at = NULL, mangled_count = 7,"
        " history_change = ?",
        msgspec.json.encode(CHANGE).decode(),
    )
    with RunningServer(linked.homes["tasks"].root) as server:
        ready = server.request("GET", "/readyz")
        assert ready.status == 200
        assert (ready.document["status"], ready.document["service"]) == ("ready", "tasks")
        text = server.request("GET", "/metrics").body.decode()
    assert 'popug_stream_stopped{origin="billing"} 1.0' in text
    assert 'popug_stream_ignored_records_total{origin="identity",reason="mangled"} 7.0' in text


def test_whole_company_names_no_service(linked: LinkedCompany) -> None:
    linked.company.backend.close()
    with RunningServer(linked.company.root) as server:
        assert "service" not in server.request("GET", "/readyz").document

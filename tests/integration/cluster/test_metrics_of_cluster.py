"""The metrics of five services and a gateway, as Prometheus scrapes them."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from popug_cli.messages.services import SERVICES, receivers_of
from tests.support.cluster.served_cluster import ServedCluster
from tests.support.running_server import UnixConnection, create_home, eventually

Samples = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture(scope="module")
def tokens() -> dict[str, str]:
    return {}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, tokens: dict[str, str]) -> Iterator[ServedCluster]:
    folder = tmp_path_factory.mktemp("c")
    company = create_home(folder / "company")
    tokens.update(company.tokens)
    cluster = ServedCluster(folder / "s", company.home)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()


def read(socket: Path, path: str) -> tuple[int, str]:
    with closing(UnixConnection(socket)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def scrape(socket: Path) -> Samples:
    """Return the values by name and the values of the labels."""
    status, text = read(socket, "/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape_all(cluster: ServedCluster) -> dict[str, Samples]:
    return {service: scrape(cluster.homes[service].socket) for service in SERVICES}


def test_only_process_of_a_service_leads(cluster: ServedCluster) -> None:
    eventually(lambda: all(samples["popug_leader", ()] == 1 for samples in scrape_all(cluster).values()))
    for service in SERVICES:
        assert f'service="{service}"' in read(cluster.homes[service].socket, "/metrics")[1]


def test_positions_meet_when_all_is_received(cluster: ServedCluster, tokens: dict[str, str]) -> None:
    assert cluster.post("tasks/add_task", {"title": "Feed the cage"}, tokens["kesha"]).status == 200

    def is_settled() -> bool:
        samples = scrape_all(cluster)
        return all(
            samples[origin]["popug_relay_position", ()] == samples[origin]["popug_log_head", ()]
            and all(
                samples[service]["popug_stream_received_position", (origin,)] == samples[origin]["popug_log_head", ()]
                for service in receivers_of(origin)
            )
            for origin in SERVICES
        )

    eventually(is_settled)
    billing = scrape(cluster.homes["billing"].socket)
    assert billing["popug_stream_behind_seconds", ("tasks",)] < 30
    assert billing["popug_stream_gap_seconds", ("tasks",)] == 0
    assert billing["popug_consumer_pending_events", ("billing",)] == 0


def test_gateway_has_its_requests_and_no_database(cluster: ServedCluster, tokens: dict[str, str]) -> None:
    before = scrape(cluster.socket)
    cluster.post("tasks/add_task", {"title": "Clean the cage"}, tokens["kesha"])
    after = scrape(cluster.socket)
    counted = ("popug_request_duration_seconds_count", ("add_task",))
    assert after[counted] == before.get(counted, 0) + 1
    assert ("popug_info", ("gateway", "0.1.0")) in after
    assert {name for name, _ in after if name.startswith("popug_")} == {
        *("popug_info", "popug_responses_total", "popug_request_duration_seconds_bucket"),
        *("popug_request_duration_seconds_count", "popug_request_duration_seconds_sum"),
    }


def test_killed_publisher_makes_its_receivers_late_not_unready(cluster: ServedCluster) -> None:
    socket = cluster.homes["billing"].socket
    cluster.kill("tasks")
    eventually(lambda: scrape(socket)["popug_stream_behind_seconds", ("tasks",)] > 3)
    assert read(socket, "/readyz")[0] == 200
    assert scrape(socket)["popug_stream_behind_seconds", ("identity",)] < 30
    cluster.start(["tasks"])
    eventually(lambda: scrape(socket)["popug_stream_behind_seconds", ("tasks",)] < 3)

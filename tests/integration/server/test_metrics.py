"""The metrics of a server: what a scrape shows, what it costs, and what it must not have."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import perf_counter

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from popug_cli.app import LocalBackend
from popug_cli.app.hosting.measurements import MAX_LAG_POSITIONS, measure
from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.messages.tasks import ImportTasks, NewTask
from popug_cli.server.metrics import Metrics
from tests.support.running_server import Answer, RunningServer, create_home
from tests.support.server_fixture import STAFF, ServerFixture

TEXT = "text/plain; version=0.0.4; charset=utf-8"
Samples = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> ServerFixture:
    return create_home(tmp_path_factory.mktemp("metrics") / "home")


@pytest.fixture(scope="module")
def served(company: ServerFixture) -> Iterator[RunningServer]:
    with RunningServer(company.home.root, "--listen", "127.0.0.1:0") as found:
        yield found
        assert (found.end(), found.err) == (0, "")


@pytest.fixture
def fresh(tmp_path: Path) -> ServerFixture:
    return create_home(tmp_path / "home")


def samples_in(text: str) -> Samples:
    """Return the values by name and the values of the labels."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in parse_text(text)
        for sample in family.samples
    }


def scrape(server: RunningServer) -> Samples:
    answer = server.request("GET", "/metrics")
    assert (answer.status, answer.headers["content-type"]) == (200, TEXT)
    return samples_in(answer.body.decode())


def added_task(server: RunningServer, company: ServerFixture) -> Answer:
    return server.post("tasks/add_task", {"title": "Feed the cage"}, company.tokens["kesha"])


def test_scrape_needs_no_token_and_shows_the_log(served: RunningServer, company: ServerFixture) -> None:
    before = scrape(served)
    assert added_task(served, company).status == 200
    after = scrape(served)
    assert after["popug_log_head", ()] == before["popug_log_head", ()] + 4
    assert after["popug_database_up", ()] == after["popug_leader", ()] == after["popug_days_open", ()] == 1
    for consumer in ("analytics", "billing", "mail", "tasks"):
        assert after["popug_consumer_position", (consumer,)] == after["popug_log_head", ()]
        assert after["popug_consumer_pending_events", (consumer,)] == 0
        assert after["popug_consumer_waiting_events", (consumer,)] == 0
        assert after["popug_consumer_dead_letters", (consumer,)] == 0
    assert {name for name, _ in after} >= {"process_resident_memory_bytes", "process_open_fds", "python_info"}


def test_one_process_has_no_relay_and_no_streams(served: RunningServer) -> None:
    assert [name for name, _ in scrape(served) if name.startswith(("popug_relay", "popug_stream"))] == []


def test_requests_are_counted_and_timed(served: RunningServer, company: ServerFixture) -> None:
    before = scrape(served)
    added_task(served, company)
    served.post("tasks/add_task", {"title": ""}, company.tokens["kesha"])
    served.post("tasks/add_task", {"title": "x"})
    served.request("GET", "/nothing/here")
    after = scrape(served)
    counts = {
        status: after["popug_responses_total", (status,)] - before.get(("popug_responses_total", (status,)), 0)
        for status in ("200", "401", "404", "422")
    }
    assert counts == {"200": 2, "401": 1, "404": 1, "422": 1}, "the first scrape is one of them"
    timed = "popug_request_duration_seconds"
    assert after[f"{timed}_count", ("add_task",)] - before.get((f"{timed}_count", ("add_task",)), 0) == 3
    assert 0 < after[f"{timed}_sum", ("add_task",)] < 60
    assert after[f"{timed}_bucket", ("60.0", "add_task")] == after[f"{timed}_count", ("add_task",)]


def test_paths_of_clients_become_no_labels(served: RunningServer) -> None:
    for path in ("/v1/secret-in-a-path", "/v1/tasks/add_task/secret-in-a-path", "/secret-in-a-path?token=secret"):
        served.request("POST", path, b"{}", {"Content-Type": "application/json"})
    answer = served.request("GET", "/metrics")
    assert b"secret" not in answer.body


def test_scrape_has_no_names_and_no_secrets(served: RunningServer, company: ServerFixture) -> None:
    added_task(served, company)
    text = served.request("GET", "/metrics").body.decode()
    words = {"ada", *STAFF, "example.com", "Feed the cage", str(company.home.root), company.served_company.home_id}
    assert [word for word in (*words, *company.tokens.values()) if word in text] == []


def test_format_follows_the_accept_header(served: RunningServer) -> None:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0, text/plain;q=0.5"}
    answer = served.request("GET", "/metrics", headers=accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in parse_openmetrics(answer.body.decode())}  # type: ignore[no-untyped-call]
    assert {"popug_log_head", "popug_responses", "popug_request_duration_seconds"} <= names


@pytest.mark.parametrize("accept", ["", "*/*", "image/png", ";;;q=x, version", "é", "application/openmetrics-text;q=0"])
def test_odd_accept_headers_are_answered(served: RunningServer, accept: str) -> None:
    answer = served.request("GET", "/metrics", headers={"Accept": accept})
    assert answer.status == 200
    assert b"popug_log_head" in answer.body


def test_head_has_no_body(served: RunningServer) -> None:
    answer = served.request("HEAD", "/metrics")
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, TEXT, b"")


def test_event_stream_is_not_timed(served: RunningServer) -> None:
    assert served.request("GET", "/v1/events").status == 401
    assert ("popug_request_duration_seconds_count", ("events",)) not in scrape(served)


def test_server_without_the_package_says_what_to_install(fresh: ServerFixture) -> None:
    patch = "import sys; sys.modules['prometheus_client'] = None"
    with RunningServer(fresh.home.root, patch=patch) as served:
        answer = served.request("GET", "/metrics")
        assert (answer.status, answer.document["code"]) == (404, "metrics_not_installed")
        assert "popug[cluster]" in answer.document["hint"]
        assert added_task(served, fresh).status == 200
        assert served.request("GET", "/readyz").status == 200
        assert (served.end(), served.err) == (0, "")


def test_replaced_database_leaves_the_other_metrics(fresh: ServerFixture, tmp_path: Path) -> None:
    with closing(ServedCompany(fresh.home, threads=1)) as company:
        metrics = Metrics(company, "0.1.0")
        assert samples_in(metrics.render("")[0].decode())["popug_database_up", ()] == 1
        shutil.copy(fresh.home.database, tmp_path / "copy")
        (tmp_path / "copy").replace(fresh.home.database)
        after = samples_in(metrics.render("")[0].decode())
    assert after["popug_database_up", ()] == 0
    assert "process_open_fds" in {name for name, _ in after}
    assert "popug_log_head" not in {name for name, _ in after}


def test_dead_and_waiting_events_are_counted(fresh: ServerFixture) -> None:
    with closing(LocalBackend(fresh.home)) as backend, backend.runtime.database.connection(writes=True) as connection:
        connection.execute(
            "INSERT INTO bus_set_aside (consumer, sequence, subject, state, attempts, due_at, error, since)"
            " VALUES ('mail', 1, 'a', 'dead', 5, NULL, 'x', ''), ('mail', 2, 'a', 'waiting', 0, NULL, '', ''),"
            " ('billing', 3, 'b', 'retrying', 1, '2099-01-01T00:00:00Z', 'x', ''),"
            " ('tasks', 4, 'c', 'dropped', 5, NULL, 'x', '')"
        )
    with RunningServer(fresh.home.root) as served:
        found = scrape(served)
    dead = {name: found["popug_consumer_dead_letters", (name,)] for name in ("mail", "billing", "tasks")}
    waiting = {name: found["popug_consumer_waiting_events", (name,)] for name in ("mail", "billing", "tasks")}
    assert (dead, waiting) == ({"mail": 1, "billing": 0, "tasks": 0}, {"mail": 1, "billing": 1, "tasks": 0})


def test_leader_is_what_the_company_says(fresh: ServerFixture) -> None:
    with closing(ServedCompany(fresh.home, threads=1)) as company:
        metrics = Metrics(company, "0.1.0")
        for is_leader in (True, False):
            company.is_leader = lambda value=is_leader: value  # type: ignore[misc]
            assert samples_in(metrics.render("")[0].decode())["popug_leader", ()] == is_leader


def test_cost_does_not_grow_with_the_log(fresh: ServerFixture) -> None:
    """Measured with 100,000 tasks: 0.4 ms, and 0.7 ms if all consumers are behind by 400,000 events."""
    fresh.open()
    fresh.perform("ada", ImportTasks(lines=[NewTask(title="Feed the cage")] * 3 * MAX_LAG_POSITIONS))
    with fresh.served_company.runtime.database.connection(writes=True) as connection:
        connection.execute("UPDATE bus_cursors SET position = 0")
    began = perf_counter()
    found = measure(fresh.served_company)
    assert perf_counter() - began < 1
    fresh.close()
    assert {each.consumer: each.position for each in found.consumers} == dict.fromkeys(
        ("analytics", "billing", "mail", "tasks"), 0
    )
    pending = {each.consumer: each.lag for each in found.consumers}
    assert 0 < pending["billing"] <= MAX_LAG_POSITIONS

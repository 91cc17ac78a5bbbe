"""The gateway routes each message to its service, and carries the token, the key, positions, warnings and errors."""

import json
from collections.abc import Iterator

import pytest

from popug_cli.messages.services import SERVICES
from tests.support.cluster.served_cluster import ServedCluster
from tests.support.running_server import create_home, eventually


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


def test_message_reaches_its_service(cluster: ServedCluster, tokens: dict[str, str]) -> None:
    added = cluster.post("tasks/add_task", {"title": "Feed the cage"}, tokens["kesha"])
    assert added.status == 200, added
    assert added.headers["popug-position"].startswith("tasks=")
    assert cluster.post("identity/who_am_i", {}, tokens["kesha"]).document["username"] == "kesha"
    balance = cluster.post(
        "billing/get_balance", {}, tokens[added.document["assignee"]], Popug_Position=added.headers["popug-position"]
    )
    assert balance.document["balance_cents"] < 0
    assert "popug-warnings" not in balance.headers
    assert balance.headers["popug-position"].startswith("billing=")


def test_repeated_key_is_answered_once(cluster: ServedCluster, tokens: dict[str, str]) -> None:
    first, again = (
        cluster.post("tasks/add_task", {"title": "Once"}, tokens["kesha"], Idempotency_Key="once") for _ in range(2)
    )
    assert first.document == again.document
    assert again.headers["idempotency-replayed"] == "true"
    other = cluster.post("tasks/add_task", {"title": "Twice"}, tokens["kesha"], Idempotency_Key="once")
    assert (other.status, other.document["code"]) == (409, "idempotency_conflict")


def test_error_of_a_service_is_the_gateways(cluster: ServedCluster, tokens: dict[str, str]) -> None:
    missing = cluster.post("tasks/get_task", {"number": 999}, tokens["kesha"])
    assert (missing.status, missing.document["code"], missing.document["exit_status"]) == (404, "task_not_found", 3)
    assert missing.document["details"] == {"number": 999}
    assert "popug-position" in missing.headers
    forbidden = cluster.post("identity/list_users", {}, tokens["kesha"])
    assert (forbidden.status, forbidden.document["code"]) == (403, "forbidden")


def test_forged_and_missing_tokens_are_refused(cluster: ServedCluster, tokens: dict[str, str]) -> None:
    for token in ("forged", tokens["kesha"][:-6] + "AAAAAA"):
        refused = cluster.post("tasks/list_tasks", {}, token)
        assert (refused.status, refused.document["code"]) == (401, "token_invalid"), refused
    assert cluster.post("tasks/list_tasks", {}).document["code"] == "not_logged_in"


def test_gateway_is_ready_and_has_the_keys(cluster: ServedCluster) -> None:
    ready = cluster.request("GET", "/readyz")
    assert ready.document["status"] == "ready"
    assert ready.document["missing"] == []
    assert cluster.request("GET", "/.well-known/jwks.json").document["keys"][0]["kty"] == "OKP"


def test_events_of_all_services_are_listed_once(cluster: ServedCluster, tokens: dict[str, str]) -> None:
    cluster.post("tasks/add_task", {"title": "Merge"}, tokens["kesha"])
    eventually(lambda: _types(cluster, tokens)[-1].startswith("popug.billing"))
    events = cluster.post("bus/list_events", {}, tokens["ada"]).document["events"]
    assert len({event["id"] for event in events}) == len(events)
    times = [event["time"] for event in events]
    assert times == sorted(times)
    for event in events:
        assert event["source"] == f"/popug/{event['service']}"
    refused = cluster.post("bus/list_events", {"after": 3}, tokens["ada"])
    assert (refused.status, refused.document["code"]) == (422, "usage")
    of_tasks = cluster.post("bus/list_events", {"after": 3, "service": "tasks"}, tokens["ada"]).document
    assert {event["source"] for event in of_tasks["events"]} == {"/popug/tasks"}
    assert "cursor" not in of_tasks


def test_cursor_reads_all_events_in_pages(cluster: ServedCluster, tokens: dict[str, str]) -> None:
    everything = cluster.post("bus/list_events", {}, tokens["ada"]).document["events"]
    read: list[str] = []
    cursor = None
    while page := cluster.post("bus/list_events", {"limit": 3, "cursor": cursor}, tokens["ada"]).document:
        if not page["events"]:
            break
        read += [event["id"] for event in page["events"]]
        cursor = page["cursor"]
    assert read == [event["id"] for event in everything]


def test_status_has_each_service(cluster: ServedCluster, tokens: dict[str, str]) -> None:
    status = cluster.post("bus/show_bus_status", {}, tokens["ada"]).document
    assert set(status["services"]) == set(SERVICES)
    assert {"tasks", "billing", "analytics", "mail", "billing:tokens"} <= {
        consumer["consumer"] for consumer in status["consumers"]
    }


def test_missing_service_is_named(cluster: ServedCluster, tokens: dict[str, str]) -> None:
    cluster.kill("analytics")
    try:
        refused = cluster.post("analytics/get_analytics", {}, tokens["ada"])
        assert (refused.status, refused.document["code"]) == (503, "service_unavailable")
        assert refused.document["exit_status"] == 8
        assert "analytics" in refused.document["detail"]
        listed = cluster.post("bus/list_events", {}, tokens["ada"])
        assert listed.status == 200
        assert "The events of analytics are missing." in json.loads(listed.headers["popug-warnings"])[0]
        assert cluster.request("GET", "/readyz").document["missing"] == ["analytics"]
    finally:
        cluster.start(["analytics"])
    assert cluster.post("analytics/get_analytics", {}, tokens["ada"]).status == 200


def _types(cluster: ServedCluster, tokens: dict[str, str]) -> list[str]:
    events = cluster.post("bus/list_events", {}, tokens["ada"]).document["events"]
    return [event["type"] for event in events]

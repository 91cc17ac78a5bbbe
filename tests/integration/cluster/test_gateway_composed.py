"""Answers of the gateway that need several services: a task, its explanation and trace, the day, the event stream."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from popug_cli.messages.services import SERVICES
from tests.support.cluster.served_cluster import ServedCluster
from tests.support.running_server import create_home, eventually

TASKS_OF_OTHER = 40


class Play:
    """A cluster and the tokens of its users; ``task`` is a completed one of ``worker``."""

    def __init__(self, cluster: ServedCluster, tokens: dict[str, str]) -> None:
        self.cluster = cluster
        self.tokens = tokens
        self.task: dict[str, Any] = cluster.post("tasks/add_task", {"title": "Feed the cage"}, tokens["kesha"]).document
        self.worker: str = self.task["assignee"]
        self.position = self.ask("tasks/complete_task", {"number": self.number}, self.worker).headers["popug-position"]

    @property
    def number(self) -> int:
        return int(self.task["number"])

    def ask(self, route: str, message: Any, user: str = "ada") -> Any:
        position = getattr(self, "position", "")
        answer = self.cluster.post(route, message, self.tokens[user], Popug_Position=position)
        assert answer.status == 200, answer
        return answer

    def run(self, *arguments: str, user: str = "ada") -> subprocess.CompletedProcess[str]:
        """Run the program against the gateway."""
        server = {"POPUG_SERVER": f"unix://{self.cluster.socket}", "POPUG_TOKEN": self.tokens[user]}
        return subprocess.run(
            [sys.executable, "-m", "popug_cli", *arguments],
            env={**self.cluster.environment, **server},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    folder = tmp_path_factory.mktemp("c")
    company = create_home(folder / "company")
    cluster = ServedCluster(folder / "s", company.home)
    try:
        cluster.start()
        yield Play(cluster, company.tokens)
    finally:
        cluster.end()


def test_task_has_its_entries_of_billing(play: Play) -> None:
    shown = play.ask("company/show_task", {"number": play.number}, play.worker).document
    assert shown["task"]["status"] == "completed"
    assert [entry["kind"] for entry in shown["entries"]] == ["fee", "reward"]
    position = play.ask("company/show_task", {"number": play.number}, play.worker).headers["popug-position"]
    assert re.fullmatch(r"(tasks|billing)=\d+\.\w+, (tasks|billing)=\d+\.\w+", position), "both logs are shown"


def test_explanation_is_billings_with_the_task_of_tasks(play: Play) -> None:
    answer = play.ask("company/explain_task", {"number": play.number}, play.worker)
    assert answer.headers["popug-position"].startswith("billing=")
    entries = play.ask("billing/list_task_entries", {"task_id": play.task["task_id"]}, play.worker).document["entries"]
    assert answer.document["figure_cents"] == sum(entry["signed_cents"] for entry in entries)
    assert len(entries) == 2


def test_today_has_tasks_and_money(play: Play) -> None:
    today = play.ask("today/show_today", {}, play.worker).document
    assert today["username"] == play.worker
    assert today["balance_cents"] != 0
    assert [activity["what"] for activity in today["happened"]][-1] == "completed"


def test_trace_names_the_consumers_of_all_services(play: Play) -> None:
    play.ask("billing/close_day", {}, "asya")
    eventually(lambda: "payout_made" in {step["event"] for step in _trace(play)})
    steps = _trace(play)
    events = [step["event"] for step in steps]
    assert len({step["event_id"] for step in steps}) == len(steps)
    for earlier, later in [("task_created", "task_assigned"), ("task_assigned", "task_completed")]:
        assert events.index(earlier) < events.index(later)
    by_event = {step["event"]: step for step in steps}
    assert by_event["task_priced"]["service"] == "billing"
    assert set(by_event["task_created"]["consumers"]) == {"billing", "analytics"}
    assert set(by_event["payout_made"]["consumers"]) == {"mail"}
    listed = play.ask("bus/list_events", {"service": "billing"}).document["events"]
    sequences = {event["id"]: event["sequence"] for event in listed}
    assert all(sequences[step["event_id"]] == str(step["sequence"]) for step in steps if step["service"] == "billing")


def test_list_and_trace_are_tables(play: Play) -> None:
    listed = play.run("events", "list", "--limit", "3")
    assert listed.returncode == 0, listed
    assert "service" in listed.stdout
    trace = play.run("events", "trace", str(play.number))
    assert "billing" in trace.stdout, trace
    status = play.run("events", "status")
    assert "The logs of the services end here: identity at" in status.stdout, status


def test_positions_need_a_service(play: Play) -> None:
    refused = play.run("events", "list", "--after", "3", "--json")
    assert (refused.returncode, json.loads(refused.stderr)["error"]["code"]) == (2, "usage")
    of_billing = play.run("events", "list", "--after", "3", "--service", "billing", "--json")
    events = json.loads(of_billing.stdout)["events"]
    assert events
    assert all(int(event["sequence"]) > 3 and event["source"] == "/popug/billing" for event in events)
    unknown = play.run("events", "list", "--service", "payroll", "--json")
    assert (unknown.returncode, json.loads(unknown.stderr)["error"]["code"]) == (2, "usage")


def test_follow_prints_each_event_of_all_services_once(play: Play) -> None:
    server = {"POPUG_SERVER": f"unix://{play.cluster.socket}", "POPUG_TOKEN": play.tokens["ada"]}
    command = [sys.executable, "-m", "popug_cli", "events", "follow", "--last", "2", "--json"]
    with subprocess.Popen(
        command, env={**play.cluster.environment, **server}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            printed = [json.loads(process.stdout.readline()) for _ in range(2)]
            for number in range(TASKS_OF_OTHER):
                play.ask("tasks/add_task", {"title": f"Follow {number}"}, "kesha")
            wanted = 3 * TASKS_OF_OTHER  # created, assigned, priced; its fee comes beside
            while sum(event["type"].startswith("popug.tasks") for event in printed[2:]) < 2 * TASKS_OF_OTHER or (
                len(printed) < wanted
            ):
                printed.append(json.loads(process.stdout.readline()))
        finally:
            process.kill()
    ids = [event["id"] for event in printed]
    assert len(set(ids)) == len(ids)
    assert {event["service"] for event in printed} >= {"tasks", "billing"}


def test_dead_letter_is_named_with_its_service(play: Play) -> None:
    for arguments in (["events", "retry", "3"], ["events", "drop", "3", "--reason", "no use"]):
        refused = play.run(*arguments, "--json")
        assert (refused.returncode, json.loads(refused.stderr)["error"]["code"]) == (2, "usage")
        assert "billing:3" in refused.stderr
    for arguments in (["events", "retry", "billing:3"], ["events", "drop", "billing:3", "--reason", "no use"]):
        refused = play.run(*arguments, "--json")
        assert (refused.returncode, json.loads(refused.stderr)["error"]["code"]) == (3, "dead_letter_not_found")
    assert json.loads(play.run("events", "retry", "--all", "--json").stdout) == {"retried": 0, "still_dead": 0}
    assert json.loads(play.run("events", "dead", "--json").stdout) == {"dead": []}


def test_any_service_answers_what_all_have(play: Play) -> None:
    play.cluster.kill("identity")
    try:
        assert "popug.tasks.task_created.v2" in play.cluster.post("bus/show_schemas", {}).document["schemas"]
        assert play.cluster.post("company/show_permissions", {}).status == 200
        refused = play.cluster.request("GET", "/readyz")
        assert (refused.status, refused.document["details"]["missing"]) == (503, ["identity"])
        traced = play.cluster.post("bus/trace_task", {"number": play.number}, play.tokens["ada"])
        assert "The events of identity" in traced.headers["popug-warnings"]
        assert play.run("statement", "--from", "yesterday", "--json").returncode == 0, "the time zone needs no identity"
    finally:
        play.cluster.start(["identity"])


def test_missing_part_is_named(play: Play) -> None:
    play.cluster.kill("billing")
    try:
        shown = play.cluster.post("company/show_task", {"number": play.number}, play.tokens["ada"])
        assert (shown.status, shown.document["entries"]) == (200, [])
        (warning,) = json.loads(shown.headers["popug-warnings"])
        assert warning == "The service billing does not answer now. The entries of the task are missing."
        for route in ("today/show_today", "billing/get_balance"):
            refused = play.cluster.post(route, {}, play.tokens["kesha"])
            assert (refused.status, refused.document["code"]) == (503, "service_unavailable")
            assert refused.document["details"] == {"service": "billing"}
            assert "sock" not in refused.body.decode()
        retried = play.cluster.post("bus/retry_dead_letters", {}, play.tokens["ada"])
        assert "The dead letters of billing were not retried." in retried.headers["popug-warnings"]
    finally:
        play.cluster.start(["billing"])


def test_role_change_is_an_activity_once(play: Play) -> None:
    """It has a position in the log of billing, from which the next look begins."""
    play.ask("identity/set_role", {"username": "mango", "role": "worker"})
    token = play.ask("identity/issue_token", {"username": "mango", "ttl_seconds": 3600})
    play.tokens["mango"], play.position = token.document["token"], token.headers["popug-position"]
    eventually(lambda: "role_changed" in [each["what"] for each in _happened(play, None)[0]])
    happened, last = _happened(play, None)
    assert [each["what"] for each in happened].count("role_changed") == 1
    assert _happened(play, last)[0] == []


def _happened(play: Play, after: int | None) -> tuple[list[dict[str, Any]], int]:
    today = play.ask("today/show_today", {"after": after}, "mango").document
    return today["happened"], today["last_sequence"]


def test_shown_event_is_that_of_its_publisher(play: Play) -> None:
    for event in play.ask("bus/list_events", {}).document["events"][-12:]:
        assert play.ask("bus/show_event", {"event_id": event["id"]}).document == event
    missing = play.cluster.post("bus/show_event", {"event_id": "none"}, play.tokens["ada"])
    assert (missing.status, missing.document["code"]) == (404, "event_not_found")
    assert set(SERVICES) > {event["service"]}


def _trace(play: Play) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = play.ask("bus/trace_task", {"number": play.number}).document["steps"]
    return steps

"""An event of a version that only a newer program knows: its consumers stop there, and nothing is lost."""

import json
import re
from datetime import timedelta

import pytest

from tests.acceptance.test_events import append, check, consumer
from tests.support.installed_company import Company

COMPLETED_9 = "popug.tasks.task_completed.v9"
PAYOUT_9 = "popug.billing.payout_made.v9"
REGISTERED_9 = "popug.identity.user_registered.v9"


def stops(consumer_name: str, type_: str) -> re.Pattern[str]:
    return re.compile(rf"{consumer_name} stops at event \d+: .* {re.escape(type_)}.* Upgrade popug; {consumer_name} ")


def test_consumer_stops_and_counts_no_attempt(lone: Company) -> None:
    lone.add_task("ada", "Feed the cage")
    balance = lone.balance_cents("ada", "kesha")
    append(lone, COMPLETED_9, "some-task", {"anything": 1})
    added = lone.run("task", "add", "Sweep the perch", as_user="ada")
    assert added.code == 0
    assert stops("billing", COMPLETED_9).search(added.stderr)
    for _ in range(3):
        assert lone.ask("ada", "events", "dead") == {"dead": []}
    billing, analytics, mail = (consumer(lone, name) for name in ("billing", "analytics", "mail"))
    assert billing["lag"] == 3  # the event itself, the new task and its assignment
    assert (billing["dead"], billing["waiting"], analytics["dead"], mail["lag"]) == (0, 0, 0, 0)
    assert billing["position"] == analytics["position"]
    assert lone.balance_cents("ada", "kesha") == balance


def test_status_doctor_and_today_name_it(lone: Company) -> None:
    append(lone, COMPLETED_9, "some-task", {"anything": 1})
    status = lone.ask("ada", "events", "status")
    assert status["unknown"] == [{"type": COMPLETED_9, "count": 1}]
    assert stops("billing", COMPLETED_9).search(" ".join(status["problems"]))
    shown = lone.run("--plain", "events", "status", as_user="ada", as_json=False).stdout
    assert "Skipped" not in shown
    assert stops("billing", COMPLETED_9).search(" ".join(shown.split()))
    assert stops("analytics", COMPLETED_9).search(" ".join(lone.ask("kesha", "today")["problems"]))
    assert stops("billing", COMPLETED_9).search(
        " ".join(lone.run("today", as_user="kesha", as_json=False).stdout.split())
    )
    named = check(lone, "unknown_versions")
    assert (named["ok"], named["attention"]) == (True, True)
    assert stops("billing", COMPLETED_9).search(named["detail"])


def test_commands_that_need_it_answer_behind(lone: Company) -> None:
    task = lone.add_task("ada", "Feed the cage")
    entry = lone.statement("ada", "kesha")["entries"][-1]["entry_id"]
    append(lone, COMPLETED_9, "some-task", {"anything": 1})
    refused = lone.run("ledger", "correct", entry, "--reason", "x", as_user="ada").refused(8, "behind")
    assert refused["details"] == {
        "consumer": "billing",
        "sequence": refused["details"]["sequence"],
        "type": COMPLETED_9,
    }
    lone.run("close-day", as_user="ada").refused(8, "behind")
    lone.run("close-day", "--dry-run", as_user="ada").refused(8, "behind")
    lone.run("events", "replay", as_user="ada").refused(8, "behind")
    assert lone.ask("ada", "events", "replay", "--verify")["differences"] == []
    assert lone.run("task", "complete", str(task["number"]), as_user="kesha").code == 0
    assert lone.run("doctor").json["checks"]


def test_tasks_answer_behind_if_their_own_event_is_newer(lone: Company) -> None:
    append(lone, REGISTERED_9, "gosha", {"anything": 1})
    lone.run("task", "add", "Feed the cage", as_user="ada").refused(8, "behind")
    assert lone.run("balance", as_user="kesha").code == 0
    assert lone.run("whoami", as_user="kesha").code == 0


def test_mail_is_not_sent_past_a_newer_payout(lone: Company) -> None:
    append(lone, PAYOUT_9, "kesha", {"anything": 1})
    lone.run("mail", "send", as_user="ada").refused(8, "behind")
    lone.run("close-day", as_user="ada").refused(8, "behind")
    lone.add_task("ada", "Feed the cage")


def test_scheduler_closes_nothing_past_it(lone: Company) -> None:
    lone.add_task("ada", "Feed the cage")
    append(lone, COMPLETED_9, "some-task", {"anything": 1})
    lone.clock_offset += timedelta(days=2)
    run = lone.run("scheduler", "--once", as_user="ada")
    assert run.code == 8
    assert json.loads(run.stderr.splitlines()[-1])["error"]["code"] == "behind"
    assert lone.store.run("SELECT count(*) FROM billing_days") == [(0,)]


@pytest.mark.parametrize("type_", ["popug.tasks.task_completed.v", "popug.tasks.task_completed.v0", "x.v9"])
def test_type_that_is_no_version_stops_nothing(lone: Company, type_: str) -> None:
    append(lone, type_, "some-task", {"anything": 1})
    lone.add_task("ada", "Feed the cage")
    status = lone.ask("ada", "events", "status")
    assert status["unknown"] == [{"type": type_, "count": 1}]
    assert {each["lag"] for each in status["consumers"]} == {0}
    assert lone.run("close-day", as_user="ada").code == 0
    assert json.loads(lone.run("doctor").stdout)["ok"]

"""The log and its consumers through the command line: failures, odd rows, dead letters, traces, replays."""

import json
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from tests.support.installed_company import Company

USER_REGISTERED = "popug.identity.user_registered.v1"
TASK_CREATED_1 = "popug.tasks.task_created.v1"
TASK_ASSIGNED = "popug.tasks.task_assigned.v1"
SELECT_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE ?"
SELECT_POSTGRES_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename LIKE ?"
CREATE_RAISE = (
    "CREATE FUNCTION out_of_order() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'out of order'; END $$"
)


def append(company: Company, type_: str, subject: str, data: Any, event_id: str = "from-outside") -> None:
    """Append a row that has nothing but an envelope, as events.md allows."""
    envelope = {
        "specversion": "1.0",
        "id": event_id,
        "source": "/popug/tests",
        "type": type_,
        "subject": subject,
        "time": "2026-03-02T09:00:00Z",
        "data": data,
    }
    company.store.run("INSERT INTO bus_log (envelope) VALUES (?)", json.dumps(envelope))


def break_consumer(company: Company, module: str) -> list[str]:
    """Make every insert into the module's tables fail. Return the triggers to drop afterwards."""
    tables, action, on = SELECT_TABLES, "BEGIN SELECT RAISE(ABORT, 'out of order'); END", ""
    if company.store.server:
        company.store.run(CREATE_RAISE)
        tables, action, on = SELECT_POSTGRES_TABLES, "EXECUTE FUNCTION out_of_order()", " ON {}"
    triggers = []
    for (name,) in company.store.run(tables, f"{module}_%"):
        for act in ("INSERT", "UPDATE"):
            trigger = f"broken_{act}_{name}"
            company.store.run(f"CREATE TRIGGER {trigger} BEFORE {act} ON {name} {action}")
            triggers.append(trigger + on.format(name))
    return triggers


def mend_consumer(company: Company, triggers: list[str]) -> None:
    for trigger in triggers:
        company.store.run(f"DROP TRIGGER {trigger}")
    if company.store.server:
        company.store.run("DROP FUNCTION out_of_order")


def consumer(company: Company, name: str) -> dict[str, Any]:
    status = company.ask("ada", "events", "status")
    return next(each for each in status["consumers"] if each["consumer"] == name)


def check(company: Company, name: str) -> dict[str, Any]:
    checks = company.run("doctor").json["checks"]
    return next(each for each in checks if each["name"] == name)


def test_5_a_failing_consumer_never_fails_the_command(company: Company) -> None:
    triggers = break_consumer(company, "analytics")
    added = company.run("task", "add", "Feed the cage", as_user="kesha")
    assert added.code == 0
    assert "analytics" in added.stderr
    assert consumer(company, "analytics")["waiting"] > 0
    assert consumer(company, "billing") | {"position": 0} == {
        "consumer": "billing",
        "position": 0,
        "lag": 0,
        "dead": 0,
        "waiting": 0,
    }
    mend_consumer(company, triggers)
    answer = company.ask("ada", "events", "retry", "--all")
    assert answer["retried"] > 0
    assert answer["still_dead"] == 0
    assert consumer(company, "analytics")["waiting"] == 0
    assert company.ask("ada", "events", "replay", "--verify")["differences"] == []
    assert company.run("doctor").code == 0


def test_4_billing_failure_is_listed_with_amount_and_drained(lone: Company) -> None:
    task = lone.add_task("ada", "Feed the cage")
    triggers = break_consumer(lone, "billing")
    lone.complete("kesha", task["number"])
    dead = lone.ask("ada", "events", "dead")["dead"]
    assert [(each["consumer"], each["event"]["type"]) for each in dead] == [
        ("billing", "popug.tasks.task_completed.v1")
    ]
    assert dead[0]["amount_cents"] == task["reward_cents"]
    assert "out of order" in dead[0]["error"]
    mend_consumer(lone, triggers)
    assert lone.ask("ada", "events", "retry", dead[0]["id"]) == {"retried": 1, "still_dead": 0}
    assert lone.balance_cents("ada", "kesha") == task["reward_cents"] - task["fee_cents"]


def test_event_is_dropped_for_a_reason_that_is_kept(lone: Company) -> None:
    append(lone, TASK_ASSIGNED, "some-task", {"task_id": "some-task", "assignee_id": 7})
    dead = lone.ask("ada", "events", "dead")["dead"]
    assert [each["consumer"] for each in dead] == ["billing"]
    dead_id = str(dead[0]["dead_id"])
    assert lone.run("events", "drop", dead_id, as_user="ada").code == 2
    lone.run("events", "drop", "999", "--reason", "x", as_user="ada").refused(3, "dead_letter_not_found")
    assert lone.ask("ada", "events", "drop", dead_id, "--reason", "never was a task") == {
        "event_id": "from-outside",
        "type": TASK_ASSIGNED,
        "consumer": "billing",
        "amount_cents": 0,
    }
    assert lone.ask("ada", "events", "dead")["dead"] == []
    dropped = lone.ask("ada", "events", "list", "--type", "dead_letter_dropped")["events"]
    assert [each["data"]["reason"] for each in dropped] == ["never was a task"]
    assert dropped[0]["actor"] == "ada"
    assert lone.run("doctor").code == 0


def test_7_event_of_an_old_version_is_consumed(lone: Company) -> None:
    ada = lone.ask("ada", "whoami")["user_id"]
    kesha = lone.ask("kesha", "whoami")["user_id"]
    data = {"task_id": "old-task", "number": 77, "title": "[POPUG-9] Old task", "creator_id": ada, "assignee_id": kesha}
    append(lone, TASK_CREATED_1, "old-task", data)
    assigned = {
        "task_id": "old-task",
        "assignee_id": kesha,
        "reason": "created",
        "draw": {"seed": "00", "algorithm": "sha256-v1", "candidates_as_of": 2},
    }
    append(lone, TASK_ASSIGNED, "old-task", assigned, "assigned-outside")
    entries = lone.statement("kesha", "kesha", "--from", "2026-03-01", "--to", lone.today(1))["entries"]
    assert [each["task"] for each in entries] == [{"number": 77, "title": "Old task"}]
    priced = lone.ask("ada", "events", "list", "--type", "task_priced", "--subject", "old-task")["events"]
    assert [each["causationid"] for each in priced] == ["from-outside"]
    assert "not linked" in check(lone, "hash_chain")["detail"]


@pytest.mark.parametrize("type_", ["popug.tasks.tasks_shuffled.v9", "popug.weather.rain_fell.v1"])
def test_event_of_unknown_type_is_skipped_and_counted(lone: Company, type_: str) -> None:
    append(lone, type_, "x", {"anything": 1})
    lone.add_task("ada", "Feed the cage")
    status = lone.ask("ada", "events", "status")
    assert status["unknown"] == [{"type": type_, "count": 1}]
    assert {each["dead"] + each["waiting"] + each["lag"] for each in status["consumers"]} == {0}


def test_hole_in_the_log_and_a_cursor_beyond_it_are_named(lone: Company) -> None:
    lone.add_task("ada", "Feed the cage")
    lone.store.edit(
        "UPDATE bus_cursors SET position = 5000 WHERE consumer = 'mail'", "DELETE FROM bus_log WHERE sequence = 2"
    )
    problems = " ".join(lone.ask("ada", "events", "status")["problems"])
    assert "hole at 2" in problems
    assert "mail is at 5000" in problems
    doctor = lone.run("doctor")
    assert doctor.code == 7
    failed = {each["name"] for each in doctor.json["checks"] if not each["ok"]}
    assert {"log_without_gaps", "hash_chain", "cursors_within_log"} <= failed
    lone.add_task("ada", "Sweep the perch")


def test_cloudevents_package_reads_events_show(lone: Company) -> None:
    lone.add_task("ada", "Feed the cage")
    listed = lone.ask("ada", "events", "list")["events"]
    assert [int(each["sequence"]) for each in listed] == list(range(1, len(listed) + 1))
    for each in listed:
        printed = lone.run("events", "show", each["id"], as_user="ada").stdout
        event = JSONFormat().read(CloudEvent, printed)
        assert event.get_id() == each["id"]
        assert event.get_type() == each["type"]
        assert event.get_specversion() == "1.0"
        assert event.get_data() == each["data"]
        assert event.get_extension("sequence") == each["sequence"]
    lone.run("events", "show", "nothing", as_user="ada").refused(3, "event_not_found")


def test_events_can_be_filtered_and_paged(lone: Company) -> None:
    lone.add_task("ada", "Feed the cage")
    full = lone.ask("ada", "events", "list", "--type", USER_REGISTERED)["events"]
    short = lone.ask("ada", "events", "list", "--type", "user_registered")["events"]
    assert full == short
    assert [each["data"]["username"] for each in full] == ["ada", "kesha"]
    first = lone.ask("ada", "events", "list", "--limit", "1")["events"]
    rest = lone.ask("ada", "events", "list", "--after", first[0]["sequence"])["events"]
    assert first + rest == lone.ask("ada", "events", "list")["events"]
    by_kesha = lone.ask("ada", "events", "list", "--actor", "kesha")["events"]
    assert {each["type"] for each in by_kesha} == {"popug.identity.token_issued.v1"}
    lone.run("events", "list", as_user="kesha").refused(5, "forbidden")


def test_trace_leads_from_the_command_to_the_mail(lone: Company) -> None:
    task, other = (lone.add_task("ada", title) for title in ("Feed the cage", "Wipe the glass"))
    for number in (task["number"], other["number"]):  # one reward may be as small as its fee, so that nothing is paid
        lone.complete("kesha", number)
    lone.ask("ada", "close-day")
    steps = lone.ask("ada", "events", "trace", str(task["number"]))["steps"]
    names = [each["event"] for each in steps]
    order = [
        "task_created",
        "task_assigned",
        "task_priced",
        "entry_posted",
        "task_completed",
        "payout_made",
        "mail_sent",
    ]
    assert [name for name in dict.fromkeys(names) if name in order] == order
    ids = {each["event_id"]: each["event"] for each in steps}
    priced = next(each for each in steps if each["event"] == "task_priced")
    assert ids[priced["causationid"]] == "task_created"
    fee = next(each for each in steps if each["event"] == "entry_posted")
    assert ids[fee["causationid"]] == "task_assigned"
    sent = next(each for each in steps if each["event"] == "mail_sent")
    assert ids[sent["causationid"]] == "payout_made"
    assert next(each for each in steps if each["event"] == "task_completed")["consumers"] == {
        "billing": "done",
        "analytics": "done",
    }


def test_8_altered_read_model_is_found_and_rebuilt(lone: Company) -> None:
    lone.add_task("ada", "Feed the cage")
    lone.store.run("UPDATE analytics_people SET balance_cents = balance_cents + 1")
    verify = lone.run("events", "replay", "--verify", as_user="ada")
    assert verify.code == 7
    assert [each["table"] for each in verify.json["differences"]] == ["analytics_people"]
    assert not check(lone, "read_models_match_replay")["ok"]
    assert lone.ask("ada", "events", "replay")["differences"] == []
    assert lone.ask("ada", "events", "replay", "--verify")["differences"] == []
    assert lone.run("doctor").code == 0


def test_schemas_are_written_one_file_each_and_need_no_login(folder: Path) -> None:
    nobody = Company(folder)
    out = folder / "schemas"
    printed = nobody.run("events", "schemas").json["schemas"]
    nobody.run("events", "schemas", "--out", str(out))
    assert {file.stem for file in out.iterdir()} == set(printed)
    assert {TASK_CREATED_1, "popug.tasks.task_created.v2"} <= set(printed)
    assert json.loads((out / f"{TASK_CREATED_1}.json").read_text()) == printed[TASK_CREATED_1]


def test_asyncapi_document_needs_no_login(folder: Path) -> None:
    nobody = Company(folder)
    printed = nobody.run("events", "schemas", "--asyncapi").json
    assert printed["asyncapi"] == "3.0.0"
    topics = {channel["address"]: channel["bindings"]["kafka"] for channel in printed["channels"].values()}
    assert set(topics) == {f"popug.{name}" for name in ("identity", "tasks", "billing", "analytics", "mail")}
    assert (topics["popug.tasks"]["partitions"], topics["popug.tasks"]["replicas"]) == (1, 3)
    assert printed["operations"]["billing.receive.tasks"]["channel"] == {"$ref": "#/channels/tasks"}
    out = folder / "documents"
    nobody.run("events", "schemas", "--asyncapi", "--out", str(out))
    assert [file.name for file in out.iterdir()] == ["asyncapi.json"]
    assert json.loads((out / "asyncapi.json").read_text()) == printed

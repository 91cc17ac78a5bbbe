"""The promises of the bus, one by one."""

import json
import sqlite3
from pathlib import Path

import msgspec
import pytest

from popug_cli.bus import dead_letters
from popug_cli.bus.consumers import Consumer, process_next_batch
from popug_cli.bus.retry import RetryPolicy, retry_wait
from popug_cli.bus.status import bus_status
from popug_cli.messages.identity import UserDeactivated
from popug_cli.messages.principal import OPERATOR
from tests.support.bus_fixture import BusFixture, registration


@pytest.fixture
def toy(tmp_path: Path) -> BusFixture:
    return BusFixture(tmp_path / "home")


def test_1_change_and_its_events_are_one_transaction(toy: BusFixture) -> None:
    def interrupted() -> None:
        with toy.runtime.writing(OPERATOR) as context:
            context.connection.execute("INSERT INTO toy_effects (subject) VALUES ('half done')")
            context.events.publish(registration("ann"))
            context.events.flush()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert toy.effects() == []
    assert toy.rows("SELECT * FROM bus_log") == []
    assert toy.rows("SELECT * FROM bus_links") == []


def test_2_redelivered_event_has_its_effect_once(toy: BusFixture) -> None:
    toy.publish("ann", "bob")
    toy.catch_up()
    toy.execute("UPDATE bus_cursors SET position = 0")
    toy.catch_up()
    assert toy.effects() == ["ann", "bob"]


def test_2_unique_constraint_protects_the_inbox(toy: BusFixture) -> None:
    toy.publish("ann")
    toy.catch_up()
    with sqlite3.connect(toy.root / "popug.db") as database, pytest.raises(sqlite3.IntegrityError):
        database.execute("INSERT INTO bus_inbox (consumer, first_sequence, last_sequence) VALUES ('toy', 1, 1)")


def test_2_crash_before_commit_leaves_no_effect_and_no_cursor(toy: BusFixture) -> None:
    toy.publish("ann")
    toy.failing, toy.error = {"ann"}, KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        process_next_batch(toy.runtime, toy.consumer)
    assert toy.effects() == []
    assert toy.rows("SELECT * FROM bus_inbox") == []
    assert toy.rows("SELECT * FROM bus_cursors") == []
    toy.failing = set()
    toy.catch_up()
    assert toy.effects() == ["ann"]


def test_3_events_of_one_subject_arrive_in_log_order(toy: BusFixture) -> None:
    toy.publish("ann", "bob", "ann")
    toy.publish("ann")
    toy.catch_up()
    log = [row["id"] for row in toy.rows("SELECT id FROM bus_log WHERE subject = 'ann' ORDER BY sequence")]
    taken = [
        row["event_id"] for row in toy.rows("SELECT event_id FROM toy_effects WHERE subject = 'ann' ORDER BY position")
    ]
    assert taken == log
    assert len(log) == 3


def test_4_bad_event_blocks_only_its_own_subject(toy: BusFixture) -> None:
    toy.failing = {"bad"}
    ids = toy.publish("bad", "ann", "bad", "bob")
    report = toy.catch_up()
    assert report.failures == {"toy": 1}
    assert toy.effects() == ["ann", "bob"]
    with toy.runtime.writing(OPERATOR) as context:
        ids.append(context.events.publish(UserDeactivated(user_id="bad")))
    toy.catch_up()
    assert [row["state"] for row in toy.rows("SELECT state FROM bus_set_aside ORDER BY sequence")] == [
        "retrying",
        "waiting",
        "waiting",
    ]
    toy.failing = set()
    toy.catch_up(include_not_due=True)
    assert toy.rows("SELECT * FROM bus_set_aside") == []
    taken = [
        row["event_id"] for row in toy.rows("SELECT event_id FROM toy_effects WHERE subject = 'bad' ORDER BY position")
    ]
    assert taken == [ids[0], ids[2], ids[4]]


def test_4_retries_back_off_and_end_as_dead_letter(toy: BusFixture) -> None:
    toy.failing = {"bad"}
    toy.publish("bad")
    attempts = []
    for _ in range(8):
        toy.catch_up()
        row = toy.rows("SELECT attempts, state FROM bus_set_aside")[0]
        attempts.append((row["attempts"], row["state"]))
        toy.clock.advance(hours=2)
    assert attempts[:5] == [(1, "retrying"), (2, "retrying"), (3, "retrying"), (4, "retrying"), (5, "dead")]
    assert attempts[5:] == [(5, "dead")] * 3


def test_4_event_that_is_not_due_is_not_retried(toy: BusFixture) -> None:
    toy.failing = {"bad"}
    toy.publish("bad")
    toy.catch_up()
    toy.clock.advance(seconds=1)
    toy.catch_up()
    assert toy.rows("SELECT attempts FROM bus_set_aside") == [{"attempts": 1}]


def test_4_retry_drains_waiting_events_up_to_next_failure(toy: BusFixture) -> None:
    toy.failing = {"bad"}
    toy.append_unlinked(envelope("bad", {"user_id": "bad"}))
    toy.publish("bad", "bad")
    toy.catch_up()
    with toy.runtime.writing(OPERATOR) as context:
        dead = dead_letters.blocking_events(context)
        assert [(each.state, each.attempts) for each in dead] == [("dead", 1)]
        assert dead_letters.retry(context, [toy.consumer], dead[0].id).still_dead == 1
    toy.failing = set()
    with toy.runtime.writing(OPERATOR) as context:
        dead_letters.drop(context, dead[0].id, "it never fitted its schema")
    toy.catch_up()
    assert toy.effects() == ["bad", "bad"]
    assert toy.rows("SELECT state FROM bus_set_aside") == [{"state": "dropped"}]


def test_4_environment_error_counts_no_attempt(toy: BusFixture) -> None:
    toy.failing, toy.error = {"ann"}, OSError(28, "No space left on device", "popug.db")
    toy.publish("ann")
    report = toy.catch_up()
    assert [fault.code for fault in report.errors] == ["disk_full"]
    assert toy.rows("SELECT * FROM bus_set_aside") == []
    toy.failing = set()
    assert toy.catch_up().errors == []
    assert toy.effects() == ["ann"]


def test_4_permanent_failure_makes_a_dead_letter_at_once(toy: BusFixture) -> None:
    toy.append_unlinked(envelope("ann", {"user_id": 7}))
    toy.append_unlinked(json.dumps({"type": "popug.identity.user_registered.v1", "id": "2"}))
    toy.publish("bob")
    toy.catch_up()
    assert toy.effects() == ["bob"]
    assert [row["state"] for row in toy.rows("SELECT state FROM bus_set_aside")] == ["dead", "dead"]


def test_4_lone_surrogate_is_a_bad_event(toy: BusFixture) -> None:
    toy.append_unlinked(envelope("half \ud800", {"user_id": "ann"}))
    toy.append_unlinked(envelope("ann", {"user_id": "half \ud800"}))
    toy.append_unlinked(json.dumps({"type": "popug.\ud800", "id": "3"}))
    toy.publish("bob")
    report = toy.catch_up()
    assert report.errors == []
    assert toy.effects() == ["bob"]
    assert [row["state"] for row in toy.rows("SELECT state FROM bus_set_aside")] == ["dead", "dead"]


def test_4_a_time_without_a_zone_fits_no_envelope(toy: BusFixture) -> None:
    fields = json.loads(envelope("ann", json.loads(msgspec.json.encode(registration("ann")))))
    toy.append_unlinked(json.dumps(fields | {"time": "2026-03-02T09:00:00"}))
    toy.append_unlinked(json.dumps(fields | {"time": "2026-03-02T09:00:00+01:00", "id": "2", "subject": "bob"}))
    toy.catch_up()
    assert toy.effects() == ["bob"]


def test_4_parked_event_missing_from_log_blocks_nothing(toy: BusFixture) -> None:
    toy.failing = {"bad"}
    toy.publish("bad", "ann")
    toy.catch_up()
    toy.execute("DROP TRIGGER bus_log_no_delete")
    toy.execute("DELETE FROM bus_log WHERE sequence = 1")
    toy.catch_up(include_not_due=True)
    assert "hole at 1" in str(toy.rows("SELECT error FROM bus_set_aside")[0]["error"])
    toy.publish("bob")
    toy.catch_up()
    assert toy.effects() == ["ann", "bob"]


def test_4_failure_to_give_up_makes_a_dead_letter_at_once(toy: BusFixture) -> None:
    def give_up(*_: object) -> bool:
        raise RuntimeError("no pen")

    toy.consumer = Consumer(toy.name, toy.consumer.subscribes, toy.consumer.consume, give_up)
    toy.failing = {"bad"}
    toy.publish("bad", "ann")
    assert toy.catch_up().errors == []
    assert toy.effects() == ["ann"]
    assert [row["state"] for row in toy.rows("SELECT state FROM bus_set_aside")] == ["dead"]


def test_cursor_that_passed_events_is_named(toy: BusFixture) -> None:
    toy.publish("ann", "bob")
    toy.execute("INSERT INTO bus_cursors (consumer, position) VALUES ('toy', 2)")
    with toy.runtime.reading(OPERATOR) as context:
        assert bus_status(context, [toy.consumer]).problems == [
            "toy has skipped 2 events without processing, the first at 1."
        ]


def test_6_next_process_consumes_the_remaining_events(toy: BusFixture) -> None:
    toy.publish(*[f"user-{n}" for n in range(30)])
    assert toy.effects() == []
    BusFixture.catch_up(toy)
    assert len(toy.effects()) == 30


def test_9_a_batch_that_fails_is_tried_one_event_at_a_time(toy: BusFixture) -> None:
    toy.failing = {"user-500"}
    toy.publish(*[f"user-{n}" for n in range(1000)])
    toy.catch_up()
    assert toy.effects() == [f"user-{n}" for n in range(1000) if n != 500]
    assert [row["subject"] for row in toy.rows("SELECT subject FROM bus_set_aside")] == ["user-500"]


def test_unknown_types_are_kept_and_skipped(toy: BusFixture) -> None:
    toy.append_unlinked(json.dumps({"type": "popug.identity.user_email_changed.v9", "id": "1", "subject": "ann"}))
    toy.append_unlinked(json.dumps({"type": "popug.weather.rain_fell.v1", "id": "2", "subject": "sky"}))
    toy.publish("bob")
    toy.catch_up()
    assert toy.effects() == ["bob"]
    assert toy.rows("SELECT count(*) AS kept FROM bus_log") == [{"kept": 3}]


def test_log_refuses_update_delete_and_replace(toy: BusFixture) -> None:
    toy.publish("ann")
    with sqlite3.connect(toy.root / "popug.db") as database:
        database.execute("PRAGMA recursive_triggers = ON")
        for statement in (
            "UPDATE bus_log SET envelope = '{}'",
            "DELETE FROM bus_log",
            "INSERT OR REPLACE INTO bus_log (sequence, envelope) VALUES (1, '{}')",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                database.execute(statement)


def test_retry_is_a_pure_decision() -> None:
    policy = RetryPolicy(max_attempts=3, first_wait_seconds=1, max_wait_seconds=8)
    assert retry_wait(1, RuntimeError(), policy, 0.5) == retry_wait(1, RuntimeError(), policy, 0.5)


def envelope(subject: str, data: dict[str, object]) -> str:
    return json.dumps(
        {
            "specversion": "1.0",
            "id": f"outside-{subject}",
            "source": "/popug/identity",
            "type": "popug.identity.user_registered.v1",
            "subject": subject,
            "time": "2026-03-02T09:00:00Z",
            "data": data,
        }
    )

"""The log: events are appended, linked by hashes, and read by position, type and subject."""

import json
import sqlite3
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from popug_cli.bus import publisher
from popug_cli.bus.hash_chain import GENESIS_HASH
from popug_cli.bus.log import decode_text
from popug_cli.bus.queries import ParkedEvent, document, list_events, list_parked_events, show_event
from popug_cli.kernel.errors import Conflict, IntegrityViolation, NotFound
from popug_cli.kernel.stored_values import InvalidStoredValue
from popug_cli.messages.base import Event
from popug_cli.messages.bus import ListEvents, ShowEvent
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.identity import UserDeactivated, UserRegistered, UserRoleChanged
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import TaskCreated
from popug_cli.storage.sqlite import SqliteConnection
from tests.support.bus_fixture import BusFixture, registration

MANY = 1_001


@pytest.fixture
def toy(tmp_path: Path) -> BusFixture:
    return BusFixture(tmp_path / "home")


def envelopes(toy: BusFixture) -> list[dict[str, Any]]:
    return [json.loads(str(row["envelope"])) for row in toy.rows("SELECT envelope FROM bus_log ORDER BY sequence")]


def links(toy: BusFixture) -> list[tuple[object, object, object]]:
    rows = toy.rows("SELECT first_sequence, last_sequence, hash FROM bus_links ORDER BY last_sequence")
    return [(row["first_sequence"], row["last_sequence"], row["hash"]) for row in rows]


def linked(before: str, toy: BusFixture, first: int, last: int) -> str:
    """Compute the hash as ``popug_cli/bus/hash_chain.py`` describes it."""
    digest = sha256(before.encode())
    for row in toy.rows(f"SELECT sequence, envelope FROM bus_log WHERE sequence BETWEEN {first} AND {last}"):
        envelope = str(row["envelope"]).encode()
        digest.update(f"{row['sequence']}:{len(envelope)}:".encode() + envelope)
    return digest.hexdigest()


def append_many(toy: BusFixture, subject: str, count: int) -> None:
    """Append many registrations cheaply."""
    toy.publish(subject)
    with toy.runtime.writing(OPERATOR) as context:
        (first,) = envelopes(toy)[-1:]
        rows = [(json.dumps(first | {"id": f"{subject}-{n}"}),) for n in range(count - 1)]
        context.connection.insert_many("INSERT INTO bus_log (envelope) VALUES (?)", rows)


def test_envelope_has_type_subject_cause_and_actor(toy: BusFixture) -> None:
    with toy.runtime.writing(OPERATOR) as context:
        first = context.events.publish(registration("ann"))
        chosen = context.events.publish(UserDeactivated(user_id="ann"), event_id="chosen", causation_id=first)
        assert chosen == "chosen"
    registered, deactivated = envelopes(toy)
    assert registered == {
        "specversion": "1.0",
        "id": first,
        "source": "/popug/identity",
        "type": "popug.identity.user_registered.v1",
        "subject": "ann",
        "time": "2026-03-02T09:00:00.000000Z",
        "datacontenttype": "application/json",
        "dataschema": UserRegistered.SCHEMA,
        "data": {"user_id": "ann", "username": "ann", "email": "ann@example.com", "role": "worker"},
        "sequence": "1",
        "correlationid": registered["correlationid"],
        "actor": "operator",
    }
    assert (deactivated["id"], deactivated["causationid"]) == ("chosen", first)
    assert deactivated["correlationid"] == registered["correlationid"] != first


def test_event_with_a_cause_inherits_its_actor(toy: BusFixture) -> None:
    cause = Delivered(7, "the cause", "ann", toy.clock.now(), "the command", "kesha", registration("ann"))
    with toy.runtime.writing(OPERATOR) as context:
        context.events.set_actor("ann")
        context.events.publish(UserDeactivated(user_id="ann"), cause=cause, causation_id="not this")
        context.events.publish(UserDeactivated(user_id="bob"))
    caused, own = envelopes(toy)
    assert (caused["causationid"], caused["correlationid"], caused["actor"]) == ("the cause", "the command", "kesha")
    assert (own.get("causationid"), own["actor"]) == (None, "ann")


def test_each_transaction_is_a_link_with_computable_hash(toy: BusFixture) -> None:
    toy.publish("ann", "bob ✓")
    toy.publish()
    toy.publish("kim")
    first, second = links(toy)
    assert first == (1, 2, linked(GENESIS_HASH, toy, 1, 2))
    assert second == (3, 3, linked(str(first[2]), toy, 3, 3))
    assert GENESIS_HASH == "0" * 64


def test_close_link_returns_head_even_if_nothing_is_appended(toy: BusFixture) -> None:
    with toy.runtime.writing(OPERATOR) as context:
        assert context.events.close_link() == GENESIS_HASH
        context.events.publish(registration("ann"))
        head = context.events.close_link()
        assert context.events.close_link() == head == context.log.head_hash()
        context.events.publish(registration("bob"))
    assert [link[:2] for link in links(toy)] == [(1, 1), (2, 2)]
    assert links(toy)[1][2] == linked(head, toy, 2, 2)


def test_rolled_back_events_leave_no_trace_in_the_chain(toy: BusFixture) -> None:
    with toy.runtime.writing(OPERATOR) as context:
        context.events.publish(registration("ann"))
        mark = context.events.savepoint()
        for _ in range(2):
            with context.connection.savepoint(keep=False):
                context.events.publish(registration("bob"))
                context.events.flush()
                context.events.publish(registration("eve"))
            context.events.restore(mark)
        context.events.publish(registration("kim"))
    assert [(each["subject"], each["sequence"]) for each in envelopes(toy)] == [("ann", "1"), ("kim", "2")]
    assert links(toy) == [(1, 2, linked(GENESIS_HASH, toy, 1, 2))]


def test_full_buffer_is_written(toy: BusFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "BUFFER_EVENTS", 3)
    with toy.runtime.writing(OPERATOR) as context:
        counts = []
        for name in "abcd":
            context.events.publish(registration(name))
            counts.append(context.connection.scalar("SELECT count(*) FROM bus_log"))
    assert counts == [0, 0, 3, 3]
    assert [each["sequence"] for each in envelopes(toy)] == ["1", "2", "3", "4"]
    assert links(toy) == [(1, 4, linked(GENESIS_HASH, toy, 1, 4))]


def test_append_refused_after_the_last_position(toy: BusFixture) -> None:
    toy.execute(f"INSERT INTO bus_log (sequence, envelope) VALUES ({publisher.MAX_POSITION - 1}, '{{}}')")
    toy.publish("ann")
    with pytest.raises(IntegrityViolation) as refused:
        toy.publish("bob")
    assert refused.value.code == "integrity"
    assert refused.value.message.endswith(f"at or near the last possible position, {publisher.MAX_POSITION}.")
    assert refused.value.hint == "No event can be appended after it; restore a backup from before that event."
    assert [each.get("subject") for each in envelopes(toy)] == [None, "ann"]


def publish_of_size(toy: BusFixture, size_bytes: int) -> None:
    """Publish an event after another one, with an envelope of that size."""
    with toy.runtime.writing(OPERATOR) as context:
        context.events.publish(registration("ann"))
        plain = msgspec.structs.replace(registration("bob"), email="")
        context.events.publish(plain)
        context.events.flush()
        rest = size_bytes - len(context.log.row_at(context.events.last_position)[2])
        context.events.publish(msgspec.structs.replace(plain, email="x" * rest))


def test_event_has_at_most_900_000_bytes(toy: BusFixture) -> None:
    publish_of_size(toy, 900_000)
    assert [len(str(row["envelope"])) for row in toy.rows("SELECT envelope FROM bus_log")][-1] == 900_000
    events = envelopes(toy)
    with pytest.raises(Conflict) as refused:
        publish_of_size(toy, 900_001)
    assert refused.value.code == "event_too_large"
    sentence = "An event popug.identity.user_registered.v1 would have 900,001 bytes; an event may have at most 900,000."
    assert refused.value.message == sentence
    assert refused.value.hint == "Nothing was changed. Use shorter texts, or fewer items at a time."
    type_ = "popug.identity.user_registered.v1"
    assert refused.value.details == {"type": type_, "size_bytes": 900_001, "max_bytes": 900_000}
    assert envelopes(toy) == events


def subjects(events: Any) -> list[tuple[int, str]]:
    return [(each.sequence, each.subject) for each in events]


def test_next_events_of_given_types_are_read_in_order(toy: BusFixture) -> None:
    toy.publish("ann", "bob", "kim")
    registered, changed = "popug.identity.user_registered.v1", "popug.identity.user_deactivated.v1"
    with toy.runtime.writing(OPERATOR) as context:
        context.events.publish(UserDeactivated(user_id="ann"))
    with toy.runtime.reading(OPERATOR) as context:
        log = context.log
        assert [sequence for sequence, *_ in log.after(1, [registered], 1)] == [2]
        assert [sequence for sequence, *_ in log.after(0, [registered, changed], 9)] == [1, 2, 3, 4]
        assert log.after(1, [changed], 9) == [log.row_at(4)]
        assert log.types_after(2, 9) == [(3, registered), (4, changed)]
        assert log.types_after(0, 1) == [(1, registered)]
        assert (log.first_from(2), log.first_from(-1), log.first_from(5)) == (log.row_at(2), log.row_at(1), None)
        with pytest.raises(InvalidStoredValue, match=r"^the log has a hole at 5$"):
            log.row_at(5)


def test_undecodable_text_is_escaped_and_read_only_once(toy: BusFixture) -> None:
    toy.publish("ann")
    toy.append_unlinked(json.dumps({"type": "\ud800", "id": "half", "subject": "ann"}))
    asked: list[str] = []
    with toy.runtime.reading(OPERATOR) as context:
        (first, (sequence, type_, envelope)) = context.log.row_at(1), context.log.row_at(2)
        assert (sequence, type_, json.loads(first[-1])["subject"]) == (2, "\\xed\\xa0\\x80", "ann")
        assert json.loads(envelope)["id"] == "half"
        assert isinstance(context.connection, SqliteConnection)
        driver = context.connection._driver
        driver.set_trace_callback(asked.append)
        driver.set_progress_handler(lambda: 1, 1)
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            context.log.row_at(2)
        driver.set_progress_handler(None, 0)
        driver.set_trace_callback(None)
    assert len(asked) == 1


def test_events_are_found_by_id_and_by_subject(toy: BusFixture) -> None:
    ann, bob, _ = toy.publish("ann", "bob", "ann")
    with toy.runtime.writing(OPERATOR) as context:
        context.events.publish(UserDeactivated(user_id="ann"))
    toy.append_unlinked(json.dumps({"type": "popug.weather.rain_fell.v1", "id": "rain", "subject": "ann"}))
    with toy.runtime.reading(OPERATOR) as context:
        log = context.log
        found = log.by_id(bob)
        assert found is not None
        assert (found.sequence, found.data) == (2, registration("bob"))
        assert (log.by_id("rain"), log.by_id("none")) == (None, None)
        assert {key: each.sequence for key, each in log.by_ids([bob, "rain", ann, "none"]).items()} == {ann: 1, bob: 2}
        assert log.by_ids([]) == {}
        assert subjects(log.by_subject("ann")) == [(1, "ann"), (3, "ann"), (4, "ann")]
        assert subjects(log.by_subject("ann", UserDeactivated, UserRoleChanged)) == [(4, "ann")]


def test_between_reads_both_ends_and_everything_between(toy: BusFixture) -> None:
    append_many(toy, "ann", 2 * MANY)
    with toy.runtime.reading(OPERATOR) as context:
        log = context.log
        assert [each.sequence for each in log.between(2, 2 * MANY - 1)] == list(range(2, 2 * MANY))
        assert [each.sequence for each in log.between(5, 5)] == [5]
        assert [*log.between(6, 5), *log.between(2 * MANY + 1, 9 * MANY)] == []
        assert [*log.between(1, 9, UserDeactivated)] == []
        assert len([*log.between(1, 9, UserDeactivated, UserRegistered)]) == 9


def test_all_versions_of_a_type_are_read(toy: BusFixture) -> None:
    append_many(toy, "ann", MANY)
    old = envelopes(toy)[0] | {
        "id": "old",
        "type": "popug.tasks.task_created.v1",
        "data": {"task_id": "t", "number": 1, "title": "[POP-1] Feed", "creator_id": "ann", "assignee_id": "ann"},
    }
    toy.append_unlinked(json.dumps(old))
    with toy.runtime.reading(OPERATOR) as context:
        assert [each.sequence for each in context.log.by_type(UserRegistered)] == list(range(1, MANY + 1))
        (created,) = context.log.by_type(TaskCreated)
        assert isinstance(created.data, TaskCreated)
        assert (created.sequence, created.data.jira_id) == (MANY + 1, "POP-1")


def test_invalid_utf8_is_escaped() -> None:
    assert decode_text("žluť".encode()) == "žluť"
    assert decode_text(b"half \xed\xa0\x80") == "half \\xed\\xa0\\x80"
    assert decode_text(None) == ""


def page(toy: BusFixture, asked: ListEvents) -> list[str]:
    with toy.runtime.reading(OPERATOR) as context:
        return [event["sequence"] for event in list_events(asked, context).events]


def test_events_are_listed_by_every_filter_at_once(toy: BusFixture) -> None:
    toy.publish("ann", "bob")
    with toy.runtime.writing(OPERATOR) as context:
        context.events.set_actor("ann")
        context.events.publish(UserDeactivated(user_id="ann"))
        context.events.publish(registration("ann"))
    type_ = "popug.identity.user_registered.v1"
    assert page(toy, ListEvents()) == ["1", "2", "3", "4"]
    assert page(toy, ListEvents(after=2)) == ["3", "4"]
    assert page(toy, ListEvents(limit=3)) == ["1", "2", "3"]
    assert page(toy, ListEvents(type=type_)) == page(toy, ListEvents(type="user_registered")) == ["1", "2", "4"]
    assert page(toy, ListEvents(subject="ann")) == ["1", "3", "4"]
    assert page(toy, ListEvents(actor="ANN")) == ["3", "4"]
    assert page(toy, ListEvents(type=type_, subject="ann", actor="ann", after=1, limit=9)) == ["4"]


@pytest.mark.parametrize("pattern", ["user%", "user_registere_", "%", "user\\_registered", "registered", "user"])
def test_type_filter_is_not_a_pattern(toy: BusFixture, pattern: str) -> None:
    toy.publish("ann")
    assert page(toy, ListEvents(type=pattern)) == []


@pytest.mark.parametrize("name", ["50%_off", "back\\slash"])
def test_type_name_may_have_pattern_characters(toy: BusFixture, name: str) -> None:
    toy.append_unlinked(json.dumps({"type": f"popug.shop.{name}.v1"}))
    assert page(toy, ListEvents(type=name)) == ["1"]


def test_event_is_shown_as_it_is_stored(toy: BusFixture) -> None:
    (ann,) = toy.publish("ann")
    with toy.runtime.reading(OPERATOR) as context:
        assert show_event(ShowEvent(event_id=ann), context) == envelopes(toy)[0]
        with pytest.raises(NotFound) as refused:
            show_event(ShowEvent(event_id="none"), context)
    assert refused.value.code == "event_not_found"
    assert refused.value.message == "There is no event 'none'."
    assert refused.value.hint == "Run `popug events list` for all of them."
    assert refused.value.details == {"event_id": "none"}


@pytest.mark.parametrize(
    ("envelope", "shown"),
    [
        ('{"id": "x", "sequence": "9"}', {"id": "x", "sequence": "7"}),
        ("[1]", {"data": [1], "sequence": "7"}),
        ("{", {"unreadable": "{", "sequence": "7"}),
    ],
)
def test_shown_event_has_its_own_position(envelope: str, shown: dict[str, Any]) -> None:
    assert document(7, envelope) == shown


def test_parked_events_are_in_order_even_if_log_lacks_them(toy: BusFixture) -> None:
    toy.failing = {"ann"}
    toy.publish("ann", "ann")
    toy.catch_up()
    toy.execute(
        "INSERT INTO bus_set_aside (consumer, sequence, subject, state, attempts, error, since)"
        " VALUES ('early', 2, 'ann', 'dead', 5, 'no', ''), ('toy', 9, 'kim', 'dropped', 5, 'no', '')"
    )
    toy.execute("DROP TRIGGER bus_log_no_delete")
    toy.execute("DELETE FROM bus_log WHERE sequence = 2")
    (first,) = toy.rows("SELECT envelope FROM bus_log")
    with toy.runtime.reading(OPERATOR) as context:
        held = list_parked_events(context)
    assert [each._replace(id=0) for each in held] == [
        ParkedEvent(0, "toy", 1, "ann", "retrying", 1, "RuntimeError: broken", str(first["envelope"])),
        ParkedEvent(0, "early", 2, "ann", "dead", 5, "no", "{}"),
        ParkedEvent(0, "toy", 2, "ann", "waiting", 0, "waits", "{}"),
    ]


def test_event_that_fails_its_schema_is_left_out(toy: BusFixture) -> None:
    toy.append_unlinked(json.dumps({"type": "popug.identity.user_registered.v1", "subject": "ann"}))
    toy.publish("ann")
    with toy.runtime.reading(OPERATOR) as context:
        known: list[Delivered[Event]] = context.log.by_subject("ann")
    assert subjects(known) == [(2, "ann")]
    assert msgspec.structs.asdict(known[0])["actor"] == "operator"

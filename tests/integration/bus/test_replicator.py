"""Two homes that share no database: a relay sends one's events to a topic, a replicator takes them into the other."""

import json
import shutil
from copy import copy
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from popug_cli import bootstrap
from popug_cli.bus import relay, stream_store
from popug_cli.bus.context import Context
from popug_cli.bus.hash_chain import GENESIS_HASH
from popug_cli.bus.records import TopicRecord
from popug_cli.bus.replicator import name_of, take
from popug_cli.bus.stream_store import origin_of
from popug_cli.kernel.errors import Conflict, IntegrityViolation
from popug_cli.kernel.home import Home
from popug_cli.messages.bus import DeadLetterDropped
from popug_cli.messages.identity import UserDeactivated
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import TaskCompleted
from tests.integration.services.linked_pair import LOG, OWN_LOG, Link, V, create, make_link, publish
from tests.support.bus_fixture import BusFixture, registration
from tests.support.company import SeededChance
from tests.support.postgres.server import PostgresServer


@pytest.fixture
def link(tmp_path: Path) -> Link:
    return make_link(tmp_path)


def complete_task(context: Context) -> None:
    context.events.publish(TaskCompleted(task_id="t", assignee_id="ann", completed_at=context.now))


def log_of(service: BusFixture) -> list[str]:
    return [str(row["envelope"]) for row in service.rows("SELECT envelope FROM bus_log ORDER BY sequence")]


def head_hash(service: BusFixture) -> str:
    """Compute the head of the chain as ``hash_chain.py`` describes it."""
    envelopes = dict(enumerate(log_of(service), start=1))
    last = GENESIS_HASH
    for row in service.rows("SELECT first_sequence AS first, last_sequence AS last FROM bus_links ORDER BY 2"):
        digest = sha256(last.encode())
        for position in range(int(str(row["first"])), int(str(row["last"])) + 1):
            envelope = envelopes[position].encode()
            digest.update(f"{position}:{len(envelope)}:".encode() + envelope)
        last = digest.hexdigest()
    return last


def test_services_begin_with_the_same_log(link: Link) -> None:
    last = json.loads(log_of(link.identity)[-1])
    state, offset = link.stream()
    assert (state.log_id, state.last, state.last_id, offset) == (LOG, int(last["sequence"]), last["id"], 0)
    assert link.send().events == []
    assert link.take() == {V.WATERMARK: 1}


def test_received_events_are_appended_byte_for_byte(link: Link) -> None:
    publish(link.tasks, complete_task)
    before = log_of(link.tasks)
    link.identity.publish("cid", "dora")
    claimed = link.send()
    assert link.take() == {V.ACCEPTED: 2, V.WATERMARK: 1}
    sent = [event.envelope for event in claimed.events]
    assert log_of(link.tasks) == [*before, *sent]
    links = link.tasks.rows("SELECT hash FROM bus_links ORDER BY last_sequence")
    assert links[-1]["hash"] == head_hash(link.tasks)
    marks = link.tasks.rows("SELECT * FROM bus_received ORDER BY sequence DESC LIMIT 2")
    assert [(mark["sequence"], mark["origin"], mark["origin_position"]) for mark in marks] == [
        (len(before) + 2, "identity", claimed.events[1].position),
        (len(before) + 1, "identity", claimed.events[0].position),
    ]
    state, offset = link.stream()
    assert (state.last, state.last_id) == (claimed.events[1].position, claimed.events[1].id)
    assert (state.watermark, state.includes, offset) == (claimed.head, {"tasks": 1}, 3)


def test_consumer_processes_received_events_once(link: Link) -> None:
    link.tasks.catch_up()
    link.identity.publish("cid")
    link.send()
    link.take()
    link.tasks.catch_up()
    assert link.tasks.effects() == ["ann", "bob", "cid"]
    assert link.take(offset=0) == {V.DUPLICATE: 1, V.WATERMARK: 1}
    link.tasks.catch_up()
    assert link.tasks.effects() == ["ann", "bob", "cid"]


def test_events_in_one_batch_are_taken_once(link: Link) -> None:
    link.identity.publish("cid", "dora")
    link.send()
    link.topic[:] = [*link.topic[:1], *link.topic]
    assert link.take() == {V.ACCEPTED: 2, V.DUPLICATE: 1, V.WATERMARK: 1}
    assert len(log_of(link.tasks)) == len(log_of(link.identity))


def test_killed_transaction_leaves_neither_event_nor_offset(link: Link) -> None:
    link.identity.publish("cid")
    link.send()
    before = log_of(link.tasks), link.stream()
    with pytest.raises(RuntimeError):
        link.take(fails=True)
    assert (log_of(link.tasks), link.stream()) == before
    assert link.take() == {V.ACCEPTED: 1, V.WATERMARK: 1}


def test_event_without_subscription_is_not_stored(link: Link) -> None:
    publish(link.identity, lambda context: context.events.publish(UserDeactivated(user_id="ann")))
    link.identity.publish("cid")
    link.send()
    before = log_of(link.tasks)
    assert link.take() == {V.ACCEPTED: 2, V.WATERMARK: 1}
    assert [json.loads(envelope)["subject"] for envelope in log_of(link.tasks)[len(before) :]] == ["cid"]
    assert link.take(offset=0) == {V.DUPLICATE: 2, V.WATERMARK: 1}


def test_ids_of_stored_events_are_found_in_chunks(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_store, "CHUNK_POSITIONS", 2)
    link.identity.publish("cid", "dora", "eve", "fay", "gil")
    claimed = link.send()
    link.take()
    ids = {event.position: event.id for event in claimed.events}
    with link.tasks.runtime.reading(OPERATOR) as context:
        found = stream_store.stored_ids(context.connection, "identity", [*ids, claimed.head + 1])
        assert stream_store.stored_ids(context.connection, "billing", [*ids]) == {}
    assert found == ids


def test_stored_event_with_another_id_changes_history(link: Link) -> None:
    link.identity.publish("cid", "dora")
    link.send()
    link.take()
    event_id = dict(link.topic[0].headers)["ce_id"] or b""
    other_id = event_id[:-1] + (b"1" if event_id[-1:] == b"0" else b"0")
    headers = [(name, other_id if name == "ce_id" else value) for name, value in link.topic[0].headers]
    value = (link.topic[0].value or b"").replace(event_id, other_id)
    link.topic.append(TopicRecord(link.topic[0].key, value, headers))
    assert link.take() == {V.HISTORY_CHANGED: 1}


def test_gap_is_kept_until_it_is_filled(link: Link) -> None:
    link.identity.publish("cid", "dora")
    link.send()
    first = link.topic.pop(0)
    assert link.take() == {V.GAP: 2}
    assert link.stream()[0].gap_since == link.tasks.clock.now()
    link.topic += [first, *link.topic]
    assert link.take() == {V.ACCEPTED: 2, V.WATERMARK: 1}
    assert link.stream()[0].gap_since is None


def test_ignored_record_is_counted_and_logged_once(link: Link, caplog: pytest.LogCaptureFixture) -> None:
    link.identity.publish("cid")
    link.send()
    other = link.topic[0]._replace(
        headers=[(name, OWN_LOG.encode() if name == "popug_log" else value) for name, value in link.topic[0].headers]
    )
    link.topic = [TopicRecord(None, b"?", []), other, *link.topic]
    assert link.take() == {V.IGNORED: 2, V.ACCEPTED: 1, V.WATERMARK: 1}
    state, _ = link.stream()
    assert (state.mangled_count, state.other_log_count) == (1, 1)
    assert caplog.messages == ["Ignored the record at offset 0 of identity: no_headers."]
    link.take(offset=1)
    assert caplog.messages[1:] == [f"Ignored the record at offset 1 of identity: it is of the log {OWN_LOG}."]


def test_changed_history_stops_the_stream(link: Link, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(link.identity.root, link.identity.root.with_name("copy"))
    link.identity.publish("cid")
    link.send()
    link.take()
    link.identity = copy(link.identity)
    link.identity.runtime = bootstrap.open_runtime(
        Home(link.identity.root.with_name("copy")), clock=link.identity.clock, randomness=SeededChance(7)
    )
    link.identity.publish("eve", "fay")
    link.send()
    before = log_of(link.tasks)
    assert link.take() == {V.HISTORY_CHANGED: 1, V.STOPPED: 2}
    assert caplog.messages == ["The history of identity changed at offset 2; its stream takes nothing more."]
    change = link.stream()[0].history_change
    assert change is not None
    assert (change.reason, change.held_id == change.its_id) == ("other_id", False)
    assert log_of(link.tasks) == before
    assert link.stream()[1] == len(link.topic)


def test_relay_sends_own_events_only(link: Link) -> None:
    link.identity.publish("cid")
    link.send()
    link.take()
    publish(link.tasks, complete_task)
    with link.tasks.runtime.writing(OPERATOR) as context:
        claimed = relay.claim(context, {})
    assert [json.loads(event.envelope)["source"] for event in claimed.events] == ["/popug/tasks"]
    assert (claimed.log_id, claimed.previous, claimed.previous_id) == (OWN_LOG, 0, "")
    assert (claimed.head, claimed.is_drained) == (len(log_of(link.tasks)), True)


def test_relay_sends_in_parts(link: Link) -> None:
    start = len(log_of(link.identity))
    link.identity.publish("cid", "dora", "eve")
    first = link.send(limit=2)
    assert ([event.position for event in first.events], first.is_drained) == ([start + 1, start + 2], False)
    second = link.send(limit=2)
    assert [event.position for event in second.events] == [start + 3]
    assert (second.start, second.previous, second.previous_id) == (start + 2, start + 2, first.events[1].id)
    assert link.take() == {V.ACCEPTED: 3, V.WATERMARK: 2}


def test_relay_that_was_overtaken_moves_nothing(link: Link) -> None:
    link.identity.publish("cid")
    late = link.claim()
    link.identity.publish("dora")
    link.send()
    with link.identity.runtime.writing(OPERATOR) as context:
        relay.advance(context, late)
    link.topic += relay.records_of(late)
    assert link.take() == {V.ACCEPTED: 2, V.WATERMARK: 1, V.DUPLICATE: 1, V.LATE: 1}
    assert link.claim().events == []


def test_claim_is_stored(link: Link) -> None:
    link.identity.publish("cid")
    claimed = link.claim()
    assert link.identity.rows("SELECT position, claimed FROM bus_relay") == [
        {"position": claimed.start, "claimed": claimed.head}
    ]


def test_received_events_are_stored_on_postgresql(link: Link, postgres: PostgresServer) -> None:
    from popug_cli.storage.postgres import schema
    from popug_cli.storage.postgres.driver import PostgresDatabase

    name = postgres.create_database()
    schema.migrate(postgres.url(name))
    database = PostgresDatabase(postgres.url(name))
    link.tasks.runtime = replace(link.tasks.runtime, database=database)
    create(link.tasks, "tasks", OWN_LOG, {"identity": LOG})
    link.identity.execute("UPDATE bus_relay SET position = 0")
    claimed = link.send()
    for _ in range(2):
        link.take(offset=0)
        state, offset = link.stream()
        assert (state.last, state.watermark, offset) == (claimed.events[-1].position, claimed.head, len(link.topic))
        assert state.includes == {"tasks": 1}
    sent = [event for event in claimed.events if "user_registered" in event.envelope]
    assert log_of(link.tasks) == [event.envelope for event in sent]
    assert [row["id"] for row in link.tasks.rows("SELECT id FROM bus_log ORDER BY sequence")] == [e.id for e in sent]
    with link.tasks.runtime.writing(OPERATOR) as context:
        claimed = relay.claim(context, {})
        relay.advance(context, claimed)
    assert (claimed.events, claimed.end) == ([], len(sent))
    database.close()
    postgres.drop_database(name)


def test_home_is_not_a_service(tmp_path: Path) -> None:
    home = BusFixture(tmp_path / "home")
    sentence = "This database is not that of a service in a cluster: "
    with pytest.raises(Conflict) as no_log, home.runtime.writing(OPERATOR) as context:
        relay.claim(context, {})
    assert no_log.value.message == sentence + "it has no log id."
    with pytest.raises(Conflict) as no_stream, home.runtime.writing(OPERATOR) as context:
        take(context, "tasks", [], set())
    assert no_stream.value.message == sentence + "it receives no events of tasks."
    assert (no_stream.value.code, no_stream.value.hint) == (
        "not_a_service",
        "Use a database that was made for the service.",
    )


def test_origin_is_the_source_or_the_consumer_concerned(link: Link) -> None:
    dropped = DeadLetterDropped(event_id="e", consumer="billing", sequence=1, reason="no")
    publish(link.tasks, lambda context: context.events.publish(dropped))
    publish(link.tasks, lambda context: context.events.publish(registration("zoe")))
    assert [origin_of(envelope) for envelope in log_of(link.tasks)[-2:]] == ["billing", "identity"]
    assert [origin_of(text) for text in ("{}", "[", '{"source":7,"data":{}}')] == ["", "", ""]


def test_copied_events_are_marked_by_origin(tmp_path: Path) -> None:
    home = BusFixture(tmp_path / "home")
    home.publish("ann")
    home.append_unlinked("{}")
    dropped = DeadLetterDropped(event_id="e", consumer="tasks", sequence=1, reason="no")
    publish(home, lambda context: context.events.publish(dropped))
    create(home, "tasks", LOG, {"billing": OWN_LOG})
    marks = home.rows("SELECT sequence, origin, origin_position FROM bus_received ORDER BY sequence DESC LIMIT 2")
    head = len(log_of(home))
    assert [tuple(mark.values()) for mark in marks] == [(head - 1, "", head - 1), (head - 2, "identity", head - 2)]
    with home.runtime.reading(OPERATOR) as context:
        state = stream_store.load(context.connection, "billing").state
    assert (state.last, state.last_id, state.watermark) == (0, "", head)


@pytest.mark.parametrize("column", ["includes", "history_change"])
def test_damaged_stream_is_named(link: Link, column: str) -> None:
    link.tasks.execute(f"UPDATE bus_streams SET {column} = '?'")
    with pytest.raises(IntegrityViolation, match="the stream of identity is damaged"):
        link.stream()


def test_name_has_no_version() -> None:
    assert (
        name_of("popug.tasks.task_created.v2") == name_of("popug.tasks.task_created.v10") == "popug.tasks.task_created"
    )

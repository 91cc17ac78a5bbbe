"""The status and the doctor report the streams and the relay of a service, and nothing more on any other home."""

from datetime import timedelta
from pathlib import Path

import pytest

from popug_cli.app.local_backend import LocalBackend
from popug_cli.audit.doctor import examine
from popug_cli.audit.stream_checks import is_service
from popug_cli.bus.records import TopicRecord
from popug_cli.bus.service.status import gap_problems, history_problems, service_status
from popug_cli.bus.streams import StreamVerdict
from popug_cli.kernel.errors import IntegrityViolation
from popug_cli.kernel.home import Home
from popug_cli.kernel.stored_values import InvalidStoredValue
from popug_cli.messages.bus import ServiceStatus, ShowBusStatus
from popug_cli.messages.company import Check
from popug_cli.messages.identity import UserDeactivated, UserEmailChanged
from popug_cli.messages.principal import OPERATOR
from tests.integration.services.linked_pair import LOG, OWN_LOG, Link, make_link, publish
from tests.support.bus_fixture import BusFixture, RecordingConsumer

CHECKS = ["streams_match_log", "received_events_match_log", "stream_gaps", "stream_histories"]


@pytest.fixture
def link(tmp_path: Path) -> Link:
    return make_link(tmp_path)


def status(link: Link) -> ServiceStatus:
    with link.tasks.runtime.reading(OPERATOR) as context:
        found = service_status(context, [link.tasks.consumer])
    assert found is not None
    return found


def problems(link: Link) -> str:
    with link.tasks.runtime.reading(OPERATOR) as context:
        return " ".join([*gap_problems(context), *history_problems(context)])


def checks(service: BusFixture) -> dict[str, Check]:
    with service.runtime.reading(OPERATOR) as context:
        return {check.name: check for check in examine(context).checks if check.name in CHECKS}


def failed(service: BusFixture) -> dict[str, str]:
    return {name: check.detail for name, check in checks(service).items() if not check.ok}


def test_status_shows_streams_and_relay(link: Link) -> None:
    link.tasks.catch_up()
    before = status(link)
    assert (before.service, before.relay.log_id, before.relay.waiting) == ("tasks", OWN_LOG, 0)
    (stream,) = before.streams
    assert (stream.origin, stream.log_id, stream.behind, stream.gap_since) == ("identity", LOG, 0, None)
    link.identity.publish("cid", "dora")
    claimed = link.send()
    link.take()
    publish(link.tasks, lambda context: context.events.publish(UserDeactivated(user_id="ann")))
    (stream,) = status(link).streams
    assert (stream.last, stream.watermark, stream.behind) == (claimed.events[-1].position, claimed.head, 2)
    assert (stream.next_offset, stream.mangled, stream.other_log) == (3, 0, 0)
    assert status(link).relay.waiting == 1
    link.tasks.catch_up()
    assert [each.behind for each in status(link).streams] == [0]


def test_ignored_records_are_counted_in_the_status(link: Link) -> None:
    link.identity.publish("cid")
    link.send()
    headers = [(name, OWN_LOG.encode() if name == "popug_log" else value) for name, value in link.topic[0].headers]
    link.topic = [TopicRecord(None, b"?", []), link.topic[0]._replace(headers=headers), *link.topic]
    link.take()
    (stream,) = status(link).streams
    assert (stream.mangled, stream.other_log) == (1, 1)
    assert problems(link) == ""
    assert failed(link.tasks) == {}


def test_gap_is_named_after_a_minute(link: Link) -> None:
    link.identity.publish("cid", "dora")
    link.send()
    lost = link.topic.pop(0)
    assert link.take()[StreamVerdict.GAP] == 2
    link.tasks.clock.instant += timedelta(seconds=60)
    assert (problems(link), failed(link.tasks)) == ("", {})
    link.tasks.clock.instant += timedelta(seconds=1)
    assert "The stream of identity has had a gap since 2026-03-02 " in problems(link)
    assert [*failed(link.tasks)] == ["stream_gaps"]
    link.topic += [lost, *link.topic]
    link.take()
    assert (problems(link), failed(link.tasks)) == ("", {})


def test_changed_history_is_named_and_fails_the_doctor(link: Link) -> None:
    link.identity.publish("cid", "dora")
    link.send()
    link.take()
    value = (link.topic[0].value or b"").replace(b'"id":"0', b'"id":"f')
    headers = [(name, b"f" + (text or b"")[1:] if name == "ce_id" else text) for name, text in link.topic[0].headers]
    link.topic.append(TopicRecord(link.topic[0].key, value, headers))
    assert link.take() == {StreamVerdict.HISTORY_CHANGED: 1}
    (stream,) = status(link).streams
    assert stream.history_change is not None
    assert (stream.history_change.reason, stream.history_change.its_id[0]) == ("other_id", "f")
    assert f"changed: this service received the event {stream.history_change.held_id} at" in problems(link)
    assert "takes nothing since 2026-03-02 10:00:00" in problems(link)
    assert [*failed(link.tasks)] == ["stream_histories"]


def test_every_stream_and_the_slowest_consumer_count(link: Link) -> None:
    link.tasks.execute("CREATE TEMP TABLE copied AS SELECT * FROM bus_streams")
    link.tasks.execute(
        'UPDATE copied SET origin = \'billing\', history_change = \'{"reason":"last_missing","position":7,'
        '"held_id":"a","its_id":"","found_at":"2026-03-02T09:30:00Z"}\''
    )
    link.tasks.execute("INSERT INTO bus_streams SELECT * FROM copied")
    link.tasks.catch_up()
    link.identity.publish("cid", "dora")
    link.send()
    link.take()
    with link.tasks.runtime.reading(OPERATOR) as context:
        late = RecordingConsumer("late").consumer
        idle = RecordingConsumer("idle", (UserEmailChanged,)).consumer
        found = service_status(context, [link.tasks.consumer, late, idle])
        assert found is not None
    billing, identity = found.streams
    assert (billing.origin, identity.origin) == ("billing", "identity")
    assert (billing.behind, identity.behind, found.relay.position) == (0, 4, 2)
    change = billing.history_change
    assert change is not None
    assert (change.position, str(change.found_at)) == (7, "2026-03-02 09:30:00+00:00")
    assert problems(link) == (
        "The history of billing changed: this service received the event a at 7, but billing has no event there any"
        " more. Its stream takes nothing since 2026-03-02 10:30:00. Restore all services from one backup."
    )


DAMAGES = {
    "last is lower than what is stored": ("UPDATE bus_streams SET last = 1", "streams_match_log", "ends at 1"),
    "last has another id": ("UPDATE bus_streams SET last_id = 'x'", "streams_match_log", "(x)"),
    "includes beyond the watermark": (
        "UPDATE bus_streams SET includes_watermark = 99",
        "streams_match_log",
        "includes at 99, beyond its watermark",
    ),
    "a negative offset": ("UPDATE bus_streams SET next_offset = -1", "streams_match_log", "negative"),
    "a relay beyond the log": ("UPDATE bus_relay SET position = 99", "streams_match_log", "the relay is at 99"),
    "a stream of its own": ("UPDATE bus_streams SET origin = 'tasks'", "streams_match_log", "receives its own events"),
    "a damaged stream": ("UPDATE bus_streams SET includes = '{'", "streams_match_log", "damaged"),
    "an instant that is not one": ("UPDATE bus_streams SET gap_since = 'x'", "streams_match_log", "damaged"),
    "a lost mark": (
        "DELETE FROM bus_received WHERE sequence = (SELECT max(sequence) FROM bus_received)",
        "received_events_match_log",
        "is not marked as received",
    ),
    "a mark at another position": (
        "UPDATE bus_received SET origin_position = 99 WHERE origin_position = (SELECT max(origin_position)"
        " FROM bus_received)",
        "received_events_match_log",
        "which its envelope does not say",
    ),
    "a mark without an event": (
        "INSERT INTO bus_received (sequence, origin, origin_position) VALUES (77, 'identity', 77)",
        "received_events_match_log",
        "received event 77",
    ),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_of_streams_is_found(link: Link, case: str) -> None:
    publish(link.tasks, lambda context: context.events.publish(UserDeactivated(user_id="ann")))
    link.identity.publish("cid", "dora")
    link.send()
    link.take()
    assert failed(link.tasks) == {}
    damage, name, words = DAMAGES[case]
    link.tasks.execute(damage)
    assert words in failed(link.tasks)[name]


def test_events_out_of_order_are_found(link: Link) -> None:
    link.identity.publish("cid", "dora")
    link.send()
    link.take()
    (row,) = link.tasks.rows("SELECT max(origin_position) AS last FROM bus_received")
    last = int(str(row["last"]))
    for old, new in ((last, 98), (last - 1, last), (98, last - 1)):
        link.tasks.execute(f"UPDATE bus_received SET origin_position = {new} WHERE origin_position = {old}")
    assert f"is {last - 1} of identity, but comes after {last}" in failed(link.tasks)["received_events_match_log"]


def test_home_that_is_no_service_shows_nothing_new(link: Link, tmp_path: Path) -> None:
    toy = BusFixture(tmp_path / "home")
    with toy.runtime.reading(OPERATOR) as context:
        assert service_status(context, [toy.consumer]) is None
        assert not is_service(context)
    assert checks(toy) == {}
    assert sorted(checks(link.tasks)) == sorted(CHECKS)
    toy.execute("DROP TABLE bus_relay")
    with toy.runtime.reading(OPERATOR) as context:
        assert not is_service(context)


def test_bus_status_of_a_service_is_composed(link: Link) -> None:
    link.identity.publish("cid", "dora")
    link.send()
    link.topic.pop(0)
    link.take()
    link.tasks.clock.instant += timedelta(seconds=61)
    backend = LocalBackend(Home(link.tasks.root), clock=link.tasks.clock)
    answer = backend.perform_as(OPERATOR, ShowBusStatus())
    assert answer.service is not None
    assert (answer.service.service, answer.service.streams[0].origin) == ("tasks", "identity")
    assert answer.service.streams[0].gap_since == status(link).streams[0].gap_since is not None
    assert [sentence for sentence in answer.problems if "gap" in sentence] == [problems(link)]
    link.tasks.execute("UPDATE bus_streams SET includes = '{'")
    with pytest.raises((IntegrityViolation, InvalidStoredValue)):
        backend.perform_as(OPERATOR, ShowBusStatus())
    backend.close()

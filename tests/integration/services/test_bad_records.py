"""Bad records of a topic: nothing is lost, what is good is taken, and the stream or the record is named."""

import json
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from popug_cli.audit.doctor import examine
from popug_cli.bus.records import TopicRecord
from popug_cli.bus.service import restore
from popug_cli.bus.service.status import gap_problems, history_problems, service_status
from popug_cli.bus.streams import StreamVerdict
from popug_cli.messages.bus import StreamStatus
from popug_cli.messages.principal import OPERATOR
from tests.integration.services.linked_pair import Link, log_ids_of, make_link

V = StreamVerdict
OTHER_COMPANY = "0198f3c2-0000-7000-8000-0000000000ff"


@pytest.fixture
def link(tmp_path: Path) -> Link:
    made = make_link(tmp_path)
    made.identity.publish("cid", "dora", "eve")
    made.send()
    return made


def stream(link: Link) -> StreamStatus:
    with link.tasks.runtime.reading(OPERATOR) as context:
        status = service_status(context, [link.tasks.consumer])
    assert status is not None
    return status.streams[0]


def named(link: Link) -> str:
    """Return what the status says of the streams; the doctor fails exactly if that is something."""
    with link.tasks.runtime.reading(OPERATOR) as context:
        problems = [*gap_problems(context), *history_problems(context)]
        checks = [check for check in examine(context).checks if check.name.startswith(("stream", "received"))]
    assert all(check.ok for check in checks) == (not problems)
    return " ".join(problems)


def edited(record: TopicRecord, **changes: bytes) -> TopicRecord:
    """Return a record with other headers, whose names are given without the hyphen."""
    return record._replace(headers=[(name, changes.get(name.replace("-", "_"), text)) for name, text in record.headers])


def with_envelope(record: TopicRecord, **changes: str) -> TopicRecord:
    """Return a record of the same position with other attributes, in the headers too."""
    value = json.dumps(json.loads(record.value or b"") | changes, separators=(",", ":")).encode()
    headers = {f"ce_{name}": text.encode() for name, text in changes.items()}
    return edited(record, **headers)._replace(value=value)


def assert_nothing_was_lost(link: Link) -> None:
    """Check that the stream goes on, and has all events in the end."""
    link.identity.publish("last")
    link.send()
    link.take()
    assert log_ids_of(link.tasks) == log_ids_of(link.identity)
    assert named(link) == ""


def test_records_of_another_company_are_counted(link: Link, caplog: pytest.LogCaptureFixture) -> None:
    own = list(link.topic)
    link.topic[:] = [each for record in own for each in (edited(record, popug_log=OTHER_COMPANY.encode()), record)]
    assert link.take() == {V.IGNORED: 4, V.ACCEPTED: 3, V.WATERMARK: 1}
    assert (stream(link).other_log, stream(link).mangled) == (4, 0)
    assert caplog.messages == [f"Ignored the record at offset 0 of identity: it is of the log {OTHER_COMPANY}."]
    assert_nothing_was_lost(link)


def test_records_without_headers_are_counted(link: Link, caplog: pytest.LogCaptureFixture) -> None:
    link.topic[:] = [each for record in link.topic for each in (record._replace(headers=[]), record)]
    assert link.take() == {V.IGNORED: 4, V.ACCEPTED: 3, V.WATERMARK: 1}
    assert (stream(link).other_log, stream(link).mangled) == (0, 4)
    assert caplog.messages == ["Ignored the record at offset 0 of identity: no_headers."]
    assert_nothing_was_lost(link)


def test_record_of_another_cloudevents_version_is_counted(link: Link, caplog: pytest.LogCaptureFixture) -> None:
    value = (link.topic[0].value or b"").replace(b'"specversion":"1.0"', b'"specversion":"2.0"')
    link.topic.insert(0, link.topic[0]._replace(value=value))
    assert link.take() == {V.IGNORED: 1, V.ACCEPTED: 3, V.WATERMARK: 1}
    assert caplog.messages == ["Ignored the record at offset 0 of identity: invalid_envelope."]
    assert_nothing_was_lost(link)


@pytest.mark.parametrize("seed", range(8))
def test_mangled_records_change_nothing(link: Link, seed: int) -> None:
    chance = Random(seed)
    own = list(link.topic)

    def mangled(record: TopicRecord) -> TopicRecord:
        value = bytearray(record.value or b"x")
        value[chance.randrange(len(value))] ^= 1 << chance.randrange(8)
        headers = [(name, chance.randbytes(chance.randrange(40))) for name, _ in record.headers]
        return chance.choice(
            [
                record._replace(value=bytes(value[: chance.randrange(len(value))]), headers=headers),
                record._replace(headers=chance.sample(list(record.headers), chance.randrange(3))),
                record._replace(key=b"other", value=b"" if record.value else b"x"),
                TopicRecord(None, None, []),
                TopicRecord(b"\xff", b"\xff", [("popug_log", b"\xff")]),
            ]
        )

    link.topic[:] = [each for record in own for each in (mangled(record), mangled(record), record)]
    assert link.take() == {V.IGNORED: 8, V.ACCEPTED: 3, V.WATERMARK: 1}
    assert (stream(link).mangled, stream(link).next_offset) == (8, 12)
    assert_nothing_was_lost(link)


def test_event_of_a_newer_version_is_stored_and_stops_there(link: Link) -> None:
    before = link.topic[1]
    link.topic[1] = with_envelope(before, type="popug.identity.user_registered.v9")
    assert link.take() == {V.ACCEPTED: 3, V.WATERMARK: 1}
    stored = link.tasks.rows("SELECT envelope FROM bus_log WHERE type LIKE '%.v9'")
    assert [row["envelope"] for row in stored] == [(link.topic[1].value or b"").decode()]
    result = link.tasks.catch_up()
    assert [error.code for error in result.errors] == ["behind"]
    assert link.tasks.effects()[-1] == "cid"
    assert stream(link).behind == 2
    assert link.tasks.rows("SELECT count(*) AS n FROM bus_set_aside") == [{"n": 0}]
    assert_nothing_was_lost(link)


def test_records_out_of_order_for_ever_are_a_gap(link: Link) -> None:
    first, second, third, watermark = link.topic
    link.topic[:] = [third, watermark, second] * 20
    assert link.take() == {V.GAP: 60}
    assert named(link) == ""
    link.tasks.clock.instant += timedelta(seconds=61)
    assert "The stream of identity has had a gap since" in named(link)
    link.topic += [third, second] * 20
    assert link.take() == {V.GAP: 40}
    assert stream(link).gap_since == link.tasks.clock.now() - timedelta(seconds=61)
    position = int(dict(first.headers)["popug_sequence"] or b"")
    with link.identity.runtime.writing(OPERATOR) as context:
        restore.republish(context, position)
    link.send()
    assert link.take()[V.ACCEPTED] == 3
    assert_nothing_was_lost(link)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_known_position_with_another_id_is_named(link: Link, caplog: pytest.LogCaptureFixture, index: int) -> None:
    link.take()
    before = log_ids_of(link.tasks)
    link.topic.append(with_envelope(link.topic[index], id="another"))
    assert link.take() == {V.HISTORY_CHANGED: 1}
    assert caplog.messages == ["The history of identity changed at offset 4; its stream takes nothing more."]
    change = stream(link).history_change
    assert change is not None
    assert (change.reason, change.its_id, change.held_id) == ("other_id", "another", before[index - 3])
    assert "The history of identity changed: this service received the event" in named(link)
    link.identity.publish("later")
    link.send()
    assert link.take() == {V.STOPPED: 2}
    assert log_ids_of(link.tasks) == before
    link.tasks.catch_up()
    assert link.tasks.effects()[-1] == "eve"

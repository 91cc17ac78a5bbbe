"""A service reads its own topic back, and sends nothing more if another database publishes under its name."""

import shutil
from copy import copy
from pathlib import Path

import pytest

from popug_cli import bootstrap
from popug_cli.audit.doctor import examine
from popug_cli.bus import relay
from popug_cli.bus.records import TopicRecord
from popug_cli.bus.service import restore
from popug_cli.bus.service.own_topic import Stranger, read_back
from popug_cli.bus.service.status import history_problems
from popug_cli.kernel.errors import Conflict
from popug_cli.kernel.home import Home
from popug_cli.messages.principal import OPERATOR
from tests.integration.services.linked_pair import OWN_LOG, Link, make_link
from tests.integration.services.test_restore import NEW_IDS, relay_of
from tests.support.company import SeededChance


@pytest.fixture
def link(tmp_path: Path) -> Link:
    return make_link(tmp_path)


def read(link: Link) -> Stranger | None:
    with link.identity.runtime.writing(OPERATOR) as context:
        return read_back(context, list(enumerate(link.topic))[relay_of(link.identity).own_offset :])


def staging(link: Link, seed: int = 7) -> Link:
    """Return a copy of identity that publishes to the same topic."""
    other = copy(link.identity)
    other.root = link.identity.root.with_name("staging")
    shutil.copytree(link.identity.root, other.root)
    other.runtime = bootstrap.open_runtime(Home(other.root), clock=other.clock, randomness=SeededChance(seed))
    return Link(other, link.tasks, link.topic)


def test_own_records_are_recognised_also_if_repeated(link: Link) -> None:
    link.identity.publish("cid", "dora")
    link.send(limit=1)
    link.send()
    link.identity.publish("eve")
    link.topic += [*link.topic[::-1], TopicRecord(None, b"?", [])]
    assert read(link) is None
    assert relay_of(link.identity).own_offset == len(link.topic)
    link.send()
    assert read(link) is None
    assert relay_of(link.identity).stranger is None


def test_record_of_a_second_database_stops_the_relay(link: Link) -> None:
    other = staging(link)
    other.identity.publish("of staging")
    link.identity.publish("of production")
    link.send()
    claimed = other.send()
    stranger = read(link)
    assert stranger == Stranger(2, claimed.events[0].position, claimed.events[0].id)
    with pytest.raises(Conflict) as refused:
        link.claim()
    assert (refused.value.code, refused.value.exit_status) == ("two_publishers", 6)
    assert claimed.events[0].id in refused.value.message
    assert read(link) == stranger
    with link.identity.runtime.reading(OPERATOR) as context:
        assert [sentence.split(",")[0] for sentence in history_problems(context)] == [
            "Another database publishes as identity"
        ]
        (check,) = [check for check in examine(context).checks if check.name == "stream_histories"]
    assert not check.ok


@pytest.mark.parametrize("sends", [0, 1])
def test_watermark_of_a_longer_copy_is_noticed(link: Link, sends: int) -> None:
    other = staging(link)
    other.identity.publish("of staging")
    link.topic += relay.records_of(other.claim())[-1:]
    for _ in range(sends):
        link.identity.publish("of production")
    assert read(link) is not None


def test_stranger_is_found_behind_records_that_are_not_its_own(link: Link, caplog: pytest.LogCaptureFixture) -> None:
    other = staging(link)
    other.identity.publish("of staging")
    claimed = other.send()
    headers = [(name, OWN_LOG.encode() if name == "popug_log" else text) for name, text in link.topic[0].headers]
    link.topic[:0] = [TopicRecord(None, b"?", []), link.topic[0]._replace(headers=headers)]
    assert read(link) == Stranger(2, claimed.events[0].position, claimed.events[0].id)
    assert caplog.messages == ["The own topic has a record at offset 2 that is not of this log; nothing is sent."]


def test_copy_without_events_of_its_own_is_harmless(link: Link) -> None:
    other = staging(link)
    other.send()
    link.identity.publish("of production")
    assert read(link) is None


def test_records_of_other_logs_are_not_looked_at(link: Link) -> None:
    other = staging(link)
    with other.identity.runtime.writing(OPERATOR) as context:
        restore.begin_new_life(context, NEW_IDS, {})
    other.identity.publish("of another life")
    other.send()
    assert read(link) is None
    assert link.claim().log_id != OWN_LOG


def test_lost_commits_are_noticed(link: Link) -> None:
    """The topic has an event that a failover of the database has lost."""
    before = staging(link)
    link.identity.publish("lost")
    link.send()
    before.topic = link.topic
    before.identity.publish("instead")
    assert read(before) is not None


def test_new_life_forgets_the_stranger(link: Link) -> None:
    test_record_of_a_second_database_stops_the_relay(link)
    with link.identity.runtime.writing(OPERATOR) as context:
        restore.begin_new_life(context, NEW_IDS, {})
    assert relay_of(link.identity).own_offset == 0
    assert read(link) is None
    link.send()
    assert read(link) is None

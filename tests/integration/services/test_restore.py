"""A restored service begins a new life: new log ids, streams from the beginning, and nothing taken of the old life."""

import shutil
from pathlib import Path

import pytest

from popug_cli import bootstrap
from popug_cli.bus import relay, stream_store
from popug_cli.bus.service import restore
from popug_cli.bus.service.restore import Received
from popug_cli.bus.streams import HistoryChange, StreamVerdict
from popug_cli.kernel.errors import Conflict, InvalidInput
from popug_cli.kernel.home import Home
from popug_cli.messages.principal import OPERATOR
from tests.integration.services.linked_pair import LOG, Link, make_link
from tests.support.bus_fixture import BusFixture
from tests.support.company import SeededChance
from tests.support.postgres.server import PostgresServer

V = StreamVerdict
NEW_LOG, NEW_OWN_LOG = (f"0198f3c2-0000-7000-9000-00000000000{digit}" for digit in "ab")
NEW_IDS = {"identity": NEW_LOG, "tasks": NEW_OWN_LOG}


@pytest.fixture
def link(tmp_path: Path) -> Link:
    return make_link(tmp_path)


def relay_of(service: BusFixture) -> stream_store.Relay:
    with service.runtime.reading(OPERATOR) as context:
        found = stream_store.load_relay(context.connection)
    assert found is not None
    return found


def received(link: Link) -> dict[str, Received]:
    state, _ = link.stream()
    return {"tasks": Received(state.last, state.last_id)}


def begin(link: Link) -> None:
    """Begin a new life of both services."""
    known = received(link)
    with link.identity.runtime.writing(OPERATOR) as context:
        restore.begin_new_life(context, NEW_IDS, known)
    with link.tasks.runtime.writing(OPERATOR) as context:
        restore.begin_new_life(context, NEW_IDS, {})


def test_all_log_ids_are_new_and_streams_begin_again(link: Link) -> None:
    link.identity.publish("cid", "dora")
    link.send()
    link.take()
    link.identity.publish("eve")
    last = link.stream()[0].last
    begin(link)
    state, offset = link.stream()
    assert (state.log_id, state.last, state.watermark, offset) == (NEW_LOG, last, 0, 0)
    assert (relay_of(link.tasks).log_id, relay_of(link.identity).log_id) == (NEW_OWN_LOG, NEW_LOG)
    assert (relay_of(link.identity).position, relay_of(link.identity).reached) == (last, 0)
    link.send()
    assert link.take() == {V.IGNORED: 3, V.ACCEPTED: 1, V.WATERMARK: 1}
    assert link.stream()[0].other_log_count == 3


def test_events_of_the_old_life_are_never_taken(link: Link) -> None:
    """The backup is older than what the topic has, and another event comes at the same position."""
    shutil.copytree(link.identity.root, link.identity.root.with_name("backup"))
    link.identity.publish("of the old life")
    link.send()
    chance = SeededChance(7)
    link.identity.runtime = bootstrap.open_runtime(
        Home(link.identity.root.with_name("backup")), clock=link.identity.clock, randomness=chance
    )
    begin(link)
    link.identity.publish("of the new life")
    link.send()
    assert link.take() == {V.IGNORED: 2, V.ACCEPTED: 1, V.WATERMARK: 1}
    link.tasks.catch_up()
    assert link.tasks.effects() == ["ann", "bob", "of the new life"]


def test_relay_begins_at_the_receiver_with_the_least(link: Link) -> None:
    start = relay_of(link.identity).position
    link.identity.publish("cid", "dora", "eve")
    claimed = link.send()
    others = {
        "billing": Received(claimed.events[1].position, claimed.events[1].id),
        "mail": Received(claimed.events[0].position, claimed.events[0].id),
    }
    with link.identity.runtime.writing(OPERATOR) as context:
        restore.begin_new_life(context, NEW_IDS, others)
    assert relay_of(link.identity).position == start + 1
    with link.identity.runtime.writing(OPERATOR) as context:
        restore.begin_new_life(context, NEW_IDS, {**others, "analytics": Received(0, "")})
    assert relay_of(link.identity).position == 0


def test_service_without_receivers_stays_where_it_is(link: Link) -> None:
    link.identity.publish("cid")
    before = relay_of(link.identity).position
    with link.identity.runtime.writing(OPERATOR) as context:
        restore.begin_new_life(context, NEW_IDS, {})
    assert relay_of(link.identity).position == before


@pytest.mark.parametrize(
    "wrong", [Received(1, "another"), Received(99, "x"), Received(1, ""), Received(0, "x"), Received(99, "")]
)
def test_new_life_refused_if_a_receiver_has_other_events(link: Link, wrong: Received) -> None:
    before = relay_of(link.identity)
    with pytest.raises(Conflict) as refused, link.identity.runtime.writing(OPERATOR) as context:
        restore.begin_new_life(context, NEW_IDS, {"mail": wrong})
    assert (refused.value.code, refused.value.details["receiver"]) == ("received_unknown", "mail")
    assert relay_of(link.identity) == before


def test_received_event_of_another_service_is_not_own(link: Link) -> None:
    link.identity.publish("cid")
    link.send()
    link.take()
    (row,) = link.tasks.rows("SELECT sequence, id FROM bus_log ORDER BY sequence DESC LIMIT 1")
    with pytest.raises(Conflict), link.tasks.runtime.reading(OPERATOR) as context:
        restore.require_received(context, {"mail": Received(int(str(row["sequence"])), str(row["id"]))})


def test_new_life_is_a_way_out_of_a_changed_history(link: Link) -> None:
    change = HistoryChange(reason="other_id", position=1, held_id="a", its_id="b", found_at=link.tasks.clock.now())  # type: ignore[arg-type]
    with link.tasks.runtime.writing(OPERATOR) as context:
        state, offset = stream_store.load(context.connection, "identity")
        stopped = stream_store.Stream(state.with_log_id(LOG), offset)
        stream_store.save(context.connection, "identity", stopped)
        context.connection.execute(
            "UPDATE bus_streams SET history_change = ?",
            f'{{"reason":"other_id","position":1,"held_id":"a","its_id":"b","found_at":"{change.found_at.isoformat()}"}}',
        )
    assert link.stream()[0].history_change is not None
    begin(link)
    link.identity.publish("cid")
    link.send()
    assert link.take() == {V.ACCEPTED: 1, V.WATERMARK: 1}


def test_home_that_is_no_service_has_no_life_to_begin(tmp_path: Path) -> None:
    toy = BusFixture(tmp_path / "home")
    for change in (
        lambda context: restore.begin_new_life(context, NEW_IDS, {}),
        lambda context: restore.republish(context, 1),
        restore.require_own_database,
    ):
        with pytest.raises(Conflict) as refused, toy.runtime.writing(OPERATOR) as context:
            change(context)
        assert refused.value.code == "not_a_service"


def test_republish_sets_the_relay_back_only(link: Link) -> None:
    link.identity.publish("cid", "dora")
    claimed = link.send()
    first = claimed.events[0].position
    with link.identity.runtime.writing(OPERATOR) as context:
        assert restore.republish(context, first) == 2
    assert relay_of(link.identity).position == first - 1
    for later in (first, claimed.head, claimed.head + 1, 0, -1):
        with pytest.raises(InvalidInput) as refused, link.identity.runtime.writing(OPERATOR) as context:
            restore.republish(context, later)
        assert refused.value.code == "not_sent_yet"
    assert link.send().events == claimed.events


def test_republish_heals_a_gap(link: Link) -> None:
    link.identity.publish("cid", "dora", "eve")
    claimed = link.send()
    del link.topic[:2]
    assert link.take() == {V.GAP: 2}
    with link.identity.runtime.writing(OPERATOR) as context:
        restore.republish(context, claimed.events[0].position)
    link.send()
    assert link.take() == {V.ACCEPTED: 3, V.WATERMARK: 1}
    assert link.stream()[0].gap_since is None


def test_watermark_at_the_head_goes_on_during_a_republish(link: Link) -> None:
    link.identity.publish("cid", "dora", "eve")
    claimed = link.send()
    link.take()
    with link.identity.runtime.writing(OPERATOR) as context:
        restore.republish(context, 1)
    link.identity.publish("fay")
    again = link.send(limit=1)
    assert (again.end, again.reached, again.last_sent[0]) == (1, claimed.head, claimed.events[-1].position)
    assert link.take() == {V.DUPLICATE: 1, V.WATERMARK: 1, V.LATE: 1}
    assert link.stream()[0].watermark == claimed.head
    while link.send(limit=1).events:
        pass
    link.take()
    assert link.stream()[0].watermark == claimed.head + 1
    assert relay_of(link.identity).reached == claimed.head + 1


def test_copied_database_must_not_publish(link: Link) -> None:
    with link.identity.runtime.reading(OPERATOR) as context:
        restore.require_own_database(context)
    copy = link.identity.root.with_name("staging")
    shutil.copytree(link.identity.root, copy)
    runtime = bootstrap.open_runtime(Home(copy), clock=link.identity.clock, randomness=SeededChance())
    with pytest.raises(Conflict) as refused, runtime.reading(OPERATOR) as context:
        restore.require_own_database(context)
    assert refused.value.code == "copied_database"
    with runtime.writing(OPERATOR) as context:
        restore.begin_new_life(context, NEW_IDS, {})
        restore.require_own_database(context)
    moved = link.identity.root.with_name("moved")
    link.identity.root.rename(moved)
    with bootstrap.open_runtime(Home(moved), clock=link.identity.clock).reading(OPERATOR) as context:
        restore.require_own_database(context)


def test_databases_of_one_server_are_told_apart(postgres: PostgresServer) -> None:
    from popug_cli.storage.postgres import schema
    from popug_cli.storage.postgres.driver import PostgresDatabase

    found = []
    for _ in range(2):
        name = postgres.create_database()
        schema.migrate(postgres.url(name))
        for _ in range(2):
            with PostgresDatabase(postgres.url(name)).transaction(writes=False) as connection:
                found.append(connection.database_id())
    assert found[0] == found[1] != found[2] == found[3]
    assert found[0].rpartition(":")[0] == found[2].rpartition(":")[0] != "postgres:"


def test_claim_is_refused_on_a_home_without_a_log_id(tmp_path: Path) -> None:
    toy = BusFixture(tmp_path / "home")
    with pytest.raises(Conflict), toy.runtime.writing(OPERATOR) as context:
        relay.claim(context, {})

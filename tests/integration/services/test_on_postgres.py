"""The statements of a service's streams give the same on PostgreSQL."""

from dataclasses import replace
from pathlib import Path

from popug_cli.bus import relay
from popug_cli.bus.consumers import Consumer
from popug_cli.bus.cursors import unknown_versions
from popug_cli.bus.records import TopicRecord
from popug_cli.bus.service import restore
from popug_cli.bus.service.history import history_of, stored_subscriptions, subscribe
from popug_cli.bus.service.own_topic import read_back
from popug_cli.bus.service.status import gap_problems, history_problems, service_status
from popug_cli.messages.identity import UserDeactivated, UserRegistered
from popug_cli.messages.principal import OPERATOR
from tests.integration.services.linked_pair import LOG, OWN_LOG, Link, create, make_link, publish
from tests.integration.services.test_restore import NEW_IDS, NEW_LOG, relay_of
from tests.support.postgres.server import PostgresServer


def move(link: Link, postgres: PostgresServer) -> None:
    """Let tasks begin on an empty database of a server, with all of identity's events still to be sent."""
    from popug_cli.storage.postgres import schema
    from popug_cli.storage.postgres.driver import PostgresDatabase

    name = postgres.create_database()
    schema.migrate(postgres.url(name))
    link.tasks.runtime = replace(link.tasks.runtime, database=PostgresDatabase(postgres.url(name)))
    create(link.tasks, "tasks", OWN_LOG, {"identity": LOG})
    link.tasks.consumer = Consumer("toy", (UserRegistered, UserDeactivated), lambda events, context: None)
    link.identity.execute("UPDATE bus_relay SET position = 0")


def test_streams_of_a_service_on_postgresql(tmp_path: Path, postgres: PostgresServer) -> None:
    link = make_link(tmp_path)
    move(link, postgres)
    publish(link.identity, lambda context: context.events.publish(UserDeactivated(user_id="ann")))
    claimed = link.send()
    link.take()
    with link.tasks.runtime.reading(OPERATOR) as context:
        status = service_status(context, [link.tasks.consumer])
        assert status is not None
        (stream,) = status.streams
        assert (stream.last, stream.behind, status.relay.waiting) == (claimed.events[-1].position, 2, 0)
        assert [
            *gap_problems(context),
            *history_problems(context),
            *unknown_versions(context, [link.tasks.consumer]),
        ] == []
        restore.require_own_database(context)
    with link.identity.runtime.reading(OPERATOR) as context:
        history = history_of(context, "popug.identity.user_deactivated", stream.last)
    with link.tasks.runtime.writing(OPERATOR) as context:
        assert subscribe(context, "identity", history) == 1
        assert stored_subscriptions(context, "identity") == {"popug.identity.user_deactivated"}
    assert link.tasks.catch_up().errors == []
    publish(link.tasks, lambda context: context.events.publish(UserDeactivated(user_id="bob")))
    with link.tasks.runtime.writing(OPERATOR) as context:
        own = relay.claim(context, {})
        relay.advance(context, own)
    topic: list[TopicRecord] = relay.records_of(own)
    with link.tasks.runtime.writing(OPERATOR) as context:
        assert read_back(context, list(enumerate(topic))) is None
        assert restore.republish(context, own.head) == 1
        restore.begin_new_life(context, NEW_IDS, {})
    assert link.stream()[0].log_id == NEW_LOG
    assert (relay_of(link.tasks).position, relay_of(link.tasks).own_offset) == (own.head - 1, 0)

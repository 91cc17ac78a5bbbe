"""Rebuild the read models from the log."""

from contextlib import ExitStack
from typing import TYPE_CHECKING

from popug_cli.audit.rebuild import (
    cursor_of,
    differences,
    empty_copy,
    parked_positions,
    replay_into,
    select_all,
    tables_of,
)
from popug_cli.bootstrap import consumer_of
from popug_cli.bus.consumers import Consumer
from popug_cli.bus.context import Context
from popug_cli.bus.cursors import require_known_versions
from popug_cli.bus.rebuilt_tables import replace_tables
from popug_cli.messages.bus import ReadModelsRebuilt, ReplayEvents, ReplayReport
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend

READ_MODEL = "analytics"


def replay_events(backend: "LocalBackend", message: ReplayEvents, principal: Principal) -> ReplayReport:
    """Compare analytics with a rebuild up to its cursor, or replace it with a rebuild.

    Raise ``behind`` instead of replacing it if its consumer stops at an event which only a newer program knows.
    """
    consumer = consumer_of(READ_MODEL)
    if not message.verify:
        with backend.runtime.reading(principal) as context:
            require_known_versions(context, [consumer])
    backend.catch_up(completely=True)
    while True:
        result = _replay(backend, message, principal, consumer)
        if result is not None:
            return result


def _replay(
    backend: "LocalBackend", message: ReplayEvents, principal: Principal, consumer: Consumer
) -> ReplayReport | None:
    """Try once. Return None if the parked events changed during the rebuild, which makes the copy useless."""
    with ExitStack() as stack:
        with backend.runtime.reading(principal) as context:
            copy = stack.enter_context(empty_copy(consumer))
            reached, parked = cursor_of(context, consumer), parked_positions(context, consumer)
            events = replay_into(context, consumer, copy, after=0, up_to=reached)
            if message.verify:
                return ReplayReport(events, differences(context, consumer, copy))

        def swap(live: Context) -> ReplayReport | None:
            require_known_versions(live, [consumer])
            if {position for position in parked_positions(live, consumer) if position <= reached} != parked:
                return None
            later = replay_into(live, consumer, copy, after=reached, up_to=live.position)
            with copy.transaction(writes=False) as rebuilt:
                selects = {table: select_all(rebuilt, table) for table in tables_of(rebuilt, consumer)}
                replace_tables(live, consumer, rebuilt, selects)
            live.events.publish(ReadModelsRebuilt(consumer=consumer.name, events=events + later))
            return ReplayReport(events + later, [])

        return backend.write(message, principal, swap)

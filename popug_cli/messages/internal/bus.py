"""Internal messages of the bus."""

from datetime import date

import msgspec

from popug_cli.messages.base import ADMINS, Query, declare
from popug_cli.messages.bus import TraceLine


class TracePart(msgspec.Struct, frozen=True):
    """The part of a task's chain that one log has; ``days`` are the business dates of its entries, by user."""

    steps: list[TraceLine]
    days: dict[str, list[date]]


@declare("events trace", roles=ADMINS, handler="app.views.trace", is_workflow=True)
class TraceEvents(Query[TracePart], frozen=True, kw_only=True):
    """Return the events of a task in this service's log, and their causes.

    Also return those payouts and mails of ``days`` that it has, and the events with ``event_ids``.
    """

    task_id: str
    days: dict[str, list[date]] = msgspec.field(default_factory=dict)
    event_ids: list[str] = msgspec.field(default_factory=list)

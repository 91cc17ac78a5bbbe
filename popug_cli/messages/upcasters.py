"""Convert old versions of events to the next version, up to the newest."""

import re
from collections.abc import Callable
from typing import Any

import msgspec

from popug_cli.messages.base import EVENTS, Event
from popug_cli.messages.billing import PayoutMade
from popug_cli.messages.old_versions import PayoutMadeV1
from popug_cli.messages.tasks import TaskCreated, TaskCreatedV1

_JIRA_IN_TITLE = re.compile(r"\[([A-Z][A-Z0-9]*-[0-9]+)\]\s*(\S.*)", re.DOTALL)


def _task_created_v1(old: TaskCreatedV1) -> TaskCreated:
    """Convert version 1, which has the jira id in brackets before the title."""
    match = _JIRA_IN_TITLE.fullmatch(old.title)
    jira_id, title = match.groups() if match else (None, old.title)
    return TaskCreated(
        task_id=old.task_id,
        number=old.number,
        title=title,
        jira_id=jira_id,
        creator_id=old.creator_id,
        assignee_id=old.assignee_id,
    )


def _payout_made_v1(old: PayoutMadeV1) -> PayoutMade:
    """Convert version 1, which has a line for each entry of the day, however many."""
    return PayoutMade(line_count=len(old.lines), **msgspec.structs.asdict(old))


UPCASTERS: dict[type[Event], Callable[[Any], Event]] = {
    TaskCreatedV1: _task_created_v1,
    PayoutMadeV1: _payout_made_v1,
}


def upcast(event: Event) -> Event:
    """Return the event in the newest version of its kind."""
    while (upcaster := UPCASTERS.get(type(event))) is not None:
        event = upcaster(event)
    return event


def versions(newest: type[Event]) -> list[type[Event]]:
    """Return all versions of an event; a consumer receives each as the newest."""
    return [shape for shape in EVENTS.values() if (shape.SOURCE, shape.NAME) == (newest.SOURCE, newest.NAME)]

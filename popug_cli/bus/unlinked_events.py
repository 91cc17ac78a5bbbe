"""Events that no link of the hash chain covers, and their problems.

Another program inserted them, or their link was removed. ``audit/missing_links.py`` tells the two cases apart.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice

import msgspec

from popug_cli.bus.context import Context
from popug_cli.bus.parked_events import describe
from popug_cli.messages.base import EVENTS, Event
from popug_cli.messages.envelope import Delivered, decode
from popug_cli.storage.id_index import equal_ids

MAX_SHOWN_PROBLEMS = 5
BEFORE_FIRST_POSITION = -(2**63)
MAX_ID_CHARACTERS = 64
USER_REGISTERED = "popug.identity.user_registered.v%"
TASK_CREATED = "popug.tasks.task_created.v%"
USER_ID_FIELDS = ("user_id", "assignee_id", "previous_assignee_id", "creator_id", "requested_by")
SELECT_GAPS = """
    SELECT previous_last + 1, first_sequence - 1 FROM (
        SELECT first_sequence, lag(last_sequence, 1, ?) OVER (ORDER BY last_sequence) AS previous_last FROM bus_links
    ) AS links WHERE first_sequence > previous_last + 1
    UNION ALL SELECT coalesce(max(last_sequence), ?) + 1, ? FROM bus_links
"""


def unlinked_positions(context: Context) -> list[int]:
    """Return the positions of the events that no link covers."""
    connection = context.connection
    gaps = connection.select(SELECT_GAPS, BEFORE_FIRST_POSITION, BEFORE_FIRST_POSITION, context.position)
    statement = "SELECT sequence FROM bus_log WHERE sequence BETWEEN ? AND ? ORDER BY sequence"
    return [sequence for gap in gaps for sequence in connection.column(statement, *gap)]


def problems_of_unlinked(context: Context) -> Iterator[str]:
    """Yield the problems of each unlinked event: its schema, its subject, unknown users and tasks.

    Events of unknown types are left out; ``status.py`` counts them.
    """
    is_published = cache(lambda subject, type_pattern: _is_published(context, subject, type_pattern))
    for sequence in unlinked_positions(context):
        row = context.log.row_at(sequence)
        try:
            event = decode(*row)
        except msgspec.MsgspecError as error:
            if row[1] in EVENTS:
                yield f"The event at {sequence} does not fit its schema: {describe(error)}."
            continue
        if event.data.subject != event.subject:
            yield f"The event at {sequence} has the subject {_clip(event.subject)}, not {_clip(event.data.subject)}."
        for user_id in _named_users(event):
            if not is_published(user_id, USER_REGISTERED):
                yield f"The event at {sequence} names {_clip(user_id)}, whom no event has registered."
        task_id = getattr(event.data, "task_id", None)
        if task_id and not is_published(task_id, TASK_CREATED):
            yield f"The event at {sequence} names the task {_clip(task_id)}, which no event has created."


def first_sentences(sentences: Iterable[str]) -> list[str]:
    """Return the first ``MAX_SHOWN_PROBLEMS`` sentences, and a sentence that says so if there are more."""
    shown = list(islice(sentences, MAX_SHOWN_PROBLEMS + 1))
    return (
        [*shown[:MAX_SHOWN_PROBLEMS], "There are more events like these."] if len(shown) > MAX_SHOWN_PROBLEMS else shown
    )


def _named_users(event: Delivered[Event]) -> list[str]:
    return [user_id for field in USER_ID_FIELDS if (user_id := getattr(event.data, field, None))]


def _clip(subject: str) -> str:
    return subject if len(subject) <= MAX_ID_CHARACTERS else f"{subject[:MAX_ID_CHARACTERS]}…"


def _is_published(context: Context, subject: str, type_pattern: str) -> bool:
    statement = f"SELECT 1 FROM bus_log WHERE {equal_ids('subject', ':subject')} AND type LIKE :type_pattern LIMIT 1"
    return context.connection.scalar(statement, subject=subject, type_pattern=type_pattern) is not None

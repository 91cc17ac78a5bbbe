"""What was appended to the log from outside: rows that no link of the chain covers, and what is odd about them."""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice

import msgspec

from popug_cli.bus.runtime import Context
from popug_cli.bus.set_aside import describe
from popug_cli.messages.base import EVENTS, Event
from popug_cli.messages.envelope import Delivered, decode
from popug_cli.storage.engine import driver_of, scalar

SHOWN = 5
BEFORE_ALL = -(2**63)
MAX_ID_CHARACTERS = 64
USER_REGISTERED = "popug.identity.user_registered.v%"
TASK_CREATED = "popug.tasks.task_created.v%"
PEOPLE = ("user_id", "assignee_id", "previous_assignee_id", "creator_id", "requested_by")
GAPS = """
    SELECT before + 1, first_sequence - 1 FROM (
        SELECT first_sequence, lag(last_sequence, 1, ?) OVER (ORDER BY last_sequence) AS before FROM bus_links
    ) AS runs WHERE first_sequence > before + 1
    UNION ALL SELECT coalesce(max(last_sequence), ?) + 1, ? FROM bus_links
"""


def not_linked(context: Context) -> list[int]:
    """The positions that no link covers."""
    driver = driver_of(context.connection)
    gaps = driver.execute(GAPS, (BEFORE_ALL, BEFORE_ALL, context.position)).fetchall()
    statement = "SELECT sequence FROM bus_log WHERE sequence BETWEEN ? AND ? ORDER BY sequence"
    return [sequence for gap in gaps for (sequence,) in driver.execute(statement, gap)]


def oddities(context: Context) -> Iterator[str]:
    """What is odd about each event that was appended from outside: its shape, its subject, those whom it names.

    Events of unknown types are counted elsewhere.
    """
    is_told = cache(lambda subject, told: _is_told(context, subject, told))
    for sequence in not_linked(context):
        row = context.log.at(sequence)
        try:
            event = decode(*row)
        except msgspec.MsgspecError as error:
            if row[1] in EVENTS:
                yield f"The event at {sequence} does not fit its schema: {describe(error)}."
            continue
        if event.data.subject != event.subject:
            yield f"The event at {sequence} has the subject {_short(event.subject)}, not {_short(event.data.subject)}."
        for person in _people(event):
            if not is_told(person, USER_REGISTERED):
                yield f"The event at {sequence} names {_short(person)}, whom no event has registered."
        task_id = getattr(event.data, "task_id", None)
        if task_id and not is_told(task_id, TASK_CREATED):
            yield f"The event at {sequence} names the task {_short(task_id)}, which no event has created."


def first_few(sentences: Iterable[str]) -> list[str]:
    """The first few of them, and whether there are more."""
    found = list(islice(sentences, SHOWN + 1))
    return [*found[:SHOWN], "There are more events like these."] if len(found) > SHOWN else found


def _people(event: Delivered[Event]) -> list[str]:
    return [person for field in PEOPLE if (person := getattr(event.data, field, None))]


def _short(subject: str) -> str:
    return subject if len(subject) <= MAX_ID_CHARACTERS else f"{subject[:MAX_ID_CHARACTERS]}…"


def _is_told(context: Context, subject: str, told: str) -> bool:
    statement = "SELECT 1 FROM bus_log WHERE subject = :subject AND type LIKE :told LIMIT 1"
    return scalar(context.connection, statement, subject=subject, told=told) is not None

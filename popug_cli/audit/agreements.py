"""The invariants that say that modules know the same: tasks and people as they were told, under the same names.

Each module hears of people by events, so one that has set something of a person aside may know less, and nobody
compares it.
"""

from itertools import islice, zip_longest
from typing import NamedTuple

from popug_cli.audit.invariants import COMPLETED, Invariant
from popug_cli.audit.reading import normal, rows, told
from popug_cli.audit.verdict import SHOWN, verdict
from popug_cli.bus.outside import not_linked
from popug_cli.bus.runtime import Context
from popug_cli.messages.company import Check
from popug_cli.messages.tasks import TaskCreated


def _taken(consumer: str, subject: str, told: str) -> str:
    """Whether a consumer has taken all that was told of a subject in events whose names begin so."""
    return (
        f"NOT EXISTS (SELECT 1 FROM bus_set_aside held WHERE held.consumer = '{consumer}' AND held.subject = {subject})"
        f" AND (SELECT position FROM bus_cursors WHERE consumer = '{consumer}')"
        f" >= (SELECT max(sequence) FROM bus_log WHERE subject = {subject} AND type LIKE 'popug.{told}%')"
    )


AGREEMENTS = (
    Invariant(
        "people_are_known_alike",
        "every module knows people by the name, the role and the address that they have, and since when",
        f"""
        SELECT 'tasks of ' || person.username FROM identity_users person LEFT JOIN tasks_people known
            ON known.user_id = person.user_id
        WHERE (known.username IS NOT person.username OR known.role IS NOT person.role
            OR known.active IS NOT person.active)
            AND {_taken("tasks", "person.user_id", "identity.user_")}
        UNION ALL
        SELECT 'billing of ' || person.username FROM identity_users person LEFT JOIN billing_accounts known
            ON known.account_id = person.user_id
        WHERE (known.username IS NOT person.username OR known.registered_at IS NOT person.registered_at)
            AND {_taken("billing", "person.user_id", "identity.user_")}
        UNION ALL
        SELECT 'mail of ' || person.username FROM identity_users person LEFT JOIN mail_receivers known
            ON known.user_id = person.user_id
        WHERE (known.username IS NOT person.username OR known.role IS NOT person.role
            OR known.active IS NOT person.active
            OR known.email IS NOT person.email) AND {_taken("mail", "person.user_id", "identity.user_")}
        """,
    ),
    Invariant(
        "tasks_are_known_alike",
        "billing knows every task by its number and title",
        f"""
        SELECT 'task #' || task.number FROM tasks_tasks task JOIN billing_tasks known ON known.task_id = task.task_id
        WHERE (known.number IS NOT task.number OR known.title IS NOT task.title)
            AND {_taken("billing", "task.task_id", "tasks.")}
        """,
    ),
    Invariant(
        "completed_when_told",
        "every task was completed when its completion says so",
        f"""
        SELECT 'task #' || task.number FROM bus_log log JOIN tasks_tasks task ON task.task_id = log.subject
        WHERE {COMPLETED} AND task.status = 'completed' AND json_extract(log.envelope, '$.time') <> task.completed_at
        """,
    ),
    Invariant(
        "sent_mail_was_told",
        "of every mail that counts as sent the log says so, or its sender was about to",
        """
        SELECT 'mail ' || mail_id FROM mail_outbox WHERE status = 'sent' AND (attempts = 0 OR told AND mail_id NOT IN (
            SELECT json_extract(envelope, '$.data.mail_id') FROM bus_log
            WHERE type = 'popug.mail.mail_sent.v1' AND json_extract(envelope, '$.data.mail_id') IS NOT NULL))
        """,
    ),
)


class Made(NamedTuple):
    """A task as it was made."""

    number: int
    task_id: str
    title: str
    jira_id: str | None
    creator_id: str
    created_at: str


def tasks_as_created(context: Context) -> Check:
    """Whether the tasks are those that were told, with their titles; what was appended from outside is none."""
    outside = set(not_linked(context))
    stand = rows(
        context, "SELECT number, task_id, title, jira_id, creator_id, created_at FROM tasks_tasks ORDER BY number"
    )
    made = (
        Made(
            event.data.number,
            event.data.task_id,
            event.data.title,
            event.data.jira_id,
            event.data.creator_id,
            normal(event.time),
        )
        for sequence, event in told(context, TaskCreated)
        if event is not None and sequence not in outside
    )
    odd = (_odd(one, other) for one, other in zip_longest(map(Made._make, stand), made) if one != other)
    holds = "every task is as its creation told it, and no other is there"
    return verdict("tasks_equal_events", holds, list(islice(odd, SHOWN + 1)))


def _odd(stands: Made | None, was_told: Made | None) -> str:
    task = stands or was_told
    assert task is not None
    if stands is None or was_told is None:
        return f"task #{task.number} ({'told and not there' if stands is None else 'there and never told'})"
    fields = zip(Made._fields, stands, was_told, strict=True)
    return f"task #{task.number} ({', '.join(name for name, one, other in fields if one != other)})"

"""The invariants that say that modules know the same: tasks and people as they were told, under the same names.

Each module hears of people by events, so one that has set something of a person aside may know less, and nobody
compares it.
"""

from itertools import islice, zip_longest
from typing import NamedTuple

from popug_cli.audit.reading import normalize_time, read_events, stream_rows
from popug_cli.audit.result import MAX_SHOWN, check_result
from popug_cli.audit.sql_invariants import IS_COMPLETED, Invariant
from popug_cli.bus.context import Context
from popug_cli.bus.unlinked_events import unlinked_positions
from popug_cli.messages.company import Check
from popug_cli.messages.tasks import TaskCreated


def _has_processed(consumer: str, subject: str, event_name: str) -> str:
    """Whether a consumer has taken all that was told of a subject in events whose names begin so."""
    return (
        f"NOT EXISTS (SELECT 1 FROM bus_set_aside held WHERE held.consumer = '{consumer}' AND held.subject = {subject})"
        f" AND (SELECT position FROM bus_cursors WHERE consumer = '{consumer}')"
        f" >= (SELECT max(sequence) FROM bus_log WHERE subject = {subject} AND type LIKE 'popug.{event_name}%')"
    )


CROSS_MODULE_INVARIANTS = (
    Invariant(
        "user_copies_agree",
        "every module knows people by the name, the role and the address that they have, and since when",
        f"""
        SELECT 'tasks of ' || person.username FROM identity_users person LEFT JOIN tasks_people known
            ON known.user_id = person.user_id
        WHERE (known.username IS NOT person.username OR known.role IS NOT person.role
            OR known.active IS NOT person.active)
            AND {_has_processed("tasks", "person.user_id", "identity.user_")}
        UNION ALL
        SELECT 'billing of ' || person.username FROM identity_users person LEFT JOIN billing_accounts known
            ON known.account_id = person.user_id
        WHERE (known.username IS NOT person.username OR known.registered_at IS NOT person.registered_at)
            AND {_has_processed("billing", "person.user_id", "identity.user_")}
        UNION ALL
        SELECT 'mail of ' || person.username FROM identity_users person LEFT JOIN mail_receivers known
            ON known.user_id = person.user_id
        WHERE (known.username IS NOT person.username OR known.role IS NOT person.role
            OR known.active IS NOT person.active
            OR known.email IS NOT person.email) AND {_has_processed("mail", "person.user_id", "identity.user_")}
        """,
    ),
    Invariant(
        "task_copies_agree",
        "billing knows every task by its number and title",
        f"""
        SELECT 'task #' || task.number FROM tasks_tasks task JOIN billing_tasks known ON known.task_id = task.task_id
        WHERE (known.number IS NOT task.number OR known.title IS NOT task.title)
            AND {_has_processed("billing", "task.task_id", "tasks.")}
        """,
    ),
    Invariant(
        "completion_times_match_events",
        "every task was completed when its completion says so",
        f"""
        SELECT 'task #' || task.number FROM bus_log log JOIN tasks_tasks task ON task.task_id = log.subject
        WHERE {IS_COMPLETED} AND task.status = 'completed' AND json_extract(log.envelope, '$.time') <> task.completed_at
        """,
    ),
    Invariant(
        "sent_mail_has_event",
        "of every mail that counts as sent the log says so, or its sender was about to",
        """
        SELECT 'mail ' || mail_id FROM mail_outbox WHERE status = 'sent' AND (attempts = 0 OR told AND mail_id NOT IN (
            SELECT json_extract(envelope, '$.data.mail_id') FROM bus_log
            WHERE type = 'popug.mail.mail_sent.v1' AND json_extract(envelope, '$.data.mail_id') IS NOT NULL))
        """,
    ),
)


class CreatedTask(NamedTuple):
    """A task as it was made."""

    number: int
    task_id: str
    title: str
    jira_id: str | None
    creator_id: str
    created_at: str


def tasks_as_created(context: Context) -> Check:
    """Whether the tasks are those that were told, with their titles; what was appended from outside is none."""
    outside = set(unlinked_positions(context))
    stored = stream_rows(
        context, "SELECT number, task_id, title, jira_id, creator_id, created_at FROM tasks_tasks ORDER BY number"
    )
    published = (
        CreatedTask(
            event.data.number,
            event.data.task_id,
            event.data.title,
            event.data.jira_id,
            event.data.creator_id,
            normalize_time(event.time),
        )
        for sequence, event in read_events(context, TaskCreated)
        if event is not None and sequence not in outside
    )
    mismatches = (
        _mismatch(stored_task, published_task)
        for stored_task, published_task in zip_longest(map(CreatedTask._make, stored), published)
        if stored_task != published_task
    )
    statement = "every task is as its creation told it, and no other is there"
    return check_result("tasks_match_events", statement, list(islice(mismatches, MAX_SHOWN + 1)))


def _mismatch(stored: CreatedTask | None, published: CreatedTask | None) -> str:
    task = stored or published
    assert task is not None
    if stored is None or published is None:
        return f"task #{task.number} ({'told and not there' if stored is None else 'there and never told'})"
    fields = zip(CreatedTask._fields, stored, published, strict=True)
    return f"task #{task.number} ({', '.join(name for name, left, right in fields if left != right)})"

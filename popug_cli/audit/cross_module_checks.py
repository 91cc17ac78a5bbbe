"""Invariants across modules: copies of users and tasks, times of completion, sent mails, tasks and their events.

A module that has not processed all events of a user or task, or has parked one, may lack a change. Its copy of that
user or task is not compared.
"""

from itertools import islice
from typing import NamedTuple

from popug_cli.audit.log_pass import LogCheck, differing_rows, has_enough
from popug_cli.audit.reading import CheckedEvent, normalize_time
from popug_cli.audit.result import MAX_SHOWN_VIOLATIONS, check_result
from popug_cli.audit.sql_invariants import IS_COMPLETED, Invariant
from popug_cli.bus.context import Context
from popug_cli.bus.log import IS_RARE
from popug_cli.bus.unlinked_events import unlinked_positions
from popug_cli.messages.tasks import TaskCreated
from popug_cli.storage.id_index import equal_ids


def _has_processed(consumer: str, subject: str, type_prefix: str) -> str:
    """Return the SQL condition that a consumer is past the events of a subject and has parked none of them.

    ``subject`` is an SQL expression. Only types that begin with ``popug.`` and ``type_prefix`` count. The plus keeps
    SQLite from reading all events of the subject in log order.
    """
    first_type = f"popug.{type_prefix}"
    after_types = first_type[:-1] + chr(ord(first_type[-1]) + 1)
    sequence, is_subject = (
        ("+sequence", f"subject = {subject} AND {IS_RARE}")
        if type_prefix.startswith("identity.")
        else ("sequence", equal_ids("bus_log.subject", subject))
    )
    return (
        f"NOT EXISTS (SELECT 1 FROM bus_set_aside WHERE consumer = '{consumer}' AND bus_set_aside.subject = {subject})"
        f" AND (SELECT position FROM bus_cursors WHERE consumer = '{consumer}')"
        f" >= (SELECT max({sequence}) FROM bus_log WHERE {is_subject}"
        f" AND type >= '{first_type}' AND type < '{after_types}')"
    )


CROSS_MODULE_INVARIANTS = (
    Invariant(
        "user_copies_agree",
        "the copies of users in tasks, billing and mail agree with identity",
        f"""
        SELECT 'tasks of ' || person.username FROM identity_users person LEFT JOIN tasks_people copy
            ON copy.user_id = person.user_id
        WHERE (copy.username IS NOT person.username OR copy.role IS NOT person.role
            OR copy.active IS NOT person.active)
            AND {_has_processed("tasks", "person.user_id", "identity.user_")}
        UNION ALL
        SELECT 'billing of ' || person.username FROM identity_users person LEFT JOIN billing_accounts copy
            ON copy.account_id = person.user_id
        WHERE (copy.username IS NOT person.username OR copy.registered_at IS NOT person.registered_at)
            AND {_has_processed("billing", "person.user_id", "identity.user_")}
        UNION ALL
        SELECT 'mail of ' || person.username FROM identity_users person LEFT JOIN mail_receivers copy
            ON copy.user_id = person.user_id
        WHERE (copy.username IS NOT person.username OR copy.role IS NOT person.role
            OR copy.active IS NOT person.active
            OR copy.email IS NOT person.email) AND {_has_processed("mail", "person.user_id", "identity.user_")}
        UNION ALL
        SELECT 'tasks has a user ' || username || ' whom identity does not know' FROM tasks_people
        WHERE user_id NOT IN (SELECT user_id FROM identity_users)
        UNION ALL
        SELECT 'billing has a user ' || username || ' whom identity does not know' FROM billing_accounts
        WHERE kind = 'employee' AND account_id NOT IN (SELECT user_id FROM identity_users)
        UNION ALL
        SELECT 'mail has a user ' || username || ' whom identity does not know' FROM mail_receivers
        WHERE user_id NOT IN (SELECT user_id FROM identity_users)
        """,
    ),
    Invariant(
        "task_copies_agree",
        "the copies of tasks in billing have the right numbers and titles",
        f"""
        SELECT 'task #' || task.number FROM tasks_tasks task JOIN billing_tasks copy ON copy.task_id = task.task_id
        WHERE (copy.number IS NOT task.number OR copy.title IS NOT task.title)
            AND {_has_processed("billing", "task.task_id", "tasks.")}
        """,
    ),
    Invariant(
        "completion_times_match_events",
        "every completed task has the time of its completion event",
        f"""
        SELECT 'task #' || task.number FROM event_fields log JOIN tasks_tasks task ON task.task_id = log.subject
        WHERE {IS_COMPLETED} AND task.status = 'completed' AND log.time <> task.completed_at
        """,
    ),
    Invariant(
        "sent_mail_has_event",
        "every mail marked as sent was attempted, and its mail_sent event is in the log or still to be published",
        f"""
        SELECT 'mail ' || mail_id FROM mail_outbox WHERE status = 'sent' AND (attempts = 0 OR told AND mail_id NOT IN (
            SELECT json_extract(envelope, '$.data.mail_id') FROM bus_log
            WHERE type = 'popug.mail.mail_sent.v1' AND {IS_RARE}
            AND json_extract(envelope, '$.data.mail_id') IS NOT NULL))
        """,
    ),
)


class CreatedTask(NamedTuple):
    """The fields of a task that do not change after its creation."""

    number: int
    task_id: str
    title: str
    jira_id: str | None
    creator_id: str
    created_at: str


def tasks_as_created(context: Context) -> LogCheck:
    """Check that the stored tasks are those of the ``task_created`` events, except events without a link."""
    unlinked = set(unlinked_positions(context))
    stored = map(
        CreatedTask._make,
        context.connection.stream(
            "SELECT number, task_id, title, jira_id, creator_id, created_at FROM tasks_tasks ORDER BY number"
        ),
    )
    violations: list[str] = []
    while (batch := (yield)) is not None and not has_enough(violations):
        published = [
            _as_created(event)
            for position, event in batch.of(TaskCreated)
            if event is not None and position not in unlinked
        ]
        violations += differing_rows(stored, published, _mismatch)
    violations += (_mismatch(task, None) for task in islice(stored, MAX_SHOWN_VIOLATIONS + 1))
    statement = "every task matches its task_created event, and there is no other task"
    return check_result("tasks_match_events", statement, violations)


def _as_created(event: CheckedEvent[TaskCreated]) -> CreatedTask:
    task = event.data
    return CreatedTask(task.number, task.task_id, task.title, task.jira_id, task.creator_id, normalize_time(event.time))


def _mismatch(stored: CreatedTask | None, published: CreatedTask | None) -> str:
    task = stored or published
    assert task is not None
    if stored is None or published is None:
        return f"task #{task.number} ({'published but not stored' if stored is None else 'stored but not published'})"
    fields = zip(CreatedTask._fields, stored, published, strict=True)
    differing = [name for name, stored_value, published_value in fields if stored_value != published_value]
    return f"task #{task.number} ({', '.join(differing)})"

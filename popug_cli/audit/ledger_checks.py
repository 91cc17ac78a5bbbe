"""Invariants that need Python: the ledger against its events, closed days, the consumers' cursors, analytics."""

from collections.abc import Callable, Iterator
from datetime import date
from functools import cache
from itertools import islice, zip_longest

from popug_cli.analytics.consumers import CONSUMER as ANALYTICS
from popug_cli.audit.reading import CheckedEvent, normalize_time, read_events
from popug_cli.audit.rebuild import cursor_of, differences, empty_copy, replay_into
from popug_cli.audit.result import MAX_SHOWN_VIOLATIONS, check_result
from popug_cli.billing.consumers import CONSUMER as BILLING
from popug_cli.billing.rules import debit_and_credit
from popug_cli.bus.context import Context
from popug_cli.bus.status import skipped_problems
from popug_cli.kernel.stored_values import from_iso_date
from popug_cli.mail.consumers import CONSUMER as MAIL
from popug_cli.messages.billing import EntryPosted
from popug_cli.messages.company import Check
from popug_cli.storage.id_index import equal_ids
from popug_cli.storage.port import Row
from popug_cli.tasks.consumers import CONSUMER as TASKS

# The fields of an entry that are compared with its event. Millions are compared, so they are plain tuples.
ENTRY_FIELDS = (
    *("entry_id", "user_id", "kind", "amount_cents", "business_date", "task_id", "corrects", "event_id"),
    *("debit_account", "credit_account", "recorded_at"),
)
UNREADABLE_ENTRY = ("unreadable", *[""] * (len(ENTRY_FIELDS) - 1))
PROGRESS_EVENTS = 1_000
SELECT_WRONG_CAUSES = f"""
    SELECT * FROM (
        SELECT entry.entry_id, entry.kind, CASE entry.kind
                WHEN 'fee' THEN 'popug.tasks.task_assigned.v1' WHEN 'reward' THEN 'popug.tasks.task_completed.v1'
                WHEN 'payout' THEN 'popug.billing.payout_made.v1' ELSE 'popug.billing.entry_posted.v1' END
                AS expected_type,
            log.type AS cause_type, entry.occurred_at,
            CASE WHEN entry.corrects IS NULL THEN json_extract(log.envelope, '$.time') ELSE entry.recorded_at END
                AS caused_at
        FROM billing_entries entry LEFT JOIN bus_log log ON {equal_ids("log.id", "entry.event_id")}
    ) AS caused WHERE cause_type IS NOT expected_type OR caused_at IS NOT occurred_at
"""


def entries_as_posted(context: Context) -> Check:
    """Check that the ledger and the log have the same entries in the same order."""
    statement = "every entry matches its entry_posted event, in the same order"
    return check_result(
        "entries_match_events", statement, list(islice(_entry_mismatches(context), MAX_SHOWN_VIOLATIONS + 1))
    )


def entries_have_causes(context: Context) -> Check:
    """Check that every entry has a cause that fits its kind, with the same timestamp."""
    statement = "every entry has a valid cause with the same timestamp"
    return check_result("entry_causes_exist", statement, list(islice(_wrong_causes(context), MAX_SHOWN_VIOLATIONS + 1)))


def closed_days(context: Context) -> Check:
    """Check that exactly the days from the company's first to the last closed one are closed."""
    connection = context.connection
    first = connection.scalar("SELECT first_day FROM billing_company")
    closed = [
        from_iso_date(day) for day in connection.column("SELECT business_date FROM billing_days ORDER BY business_date")
    ]
    expected = list(context.calendar.days(from_iso_date(first), closed[-1])) if first and closed else []
    differing = sorted(set(closed).symmetric_difference(expected))
    return check_result("closed_days_without_gaps", "the closed days have no gap", [str(day) for day in differing])


def no_event_skipped(context: Context) -> Check:
    """Check that every consumer has processed or parked all its events up to its cursor."""
    consumers = (ANALYTICS, BILLING, MAIL, TASKS)
    statement = "every event up to a consumer's cursor is processed or parked"
    return check_result("no_event_skipped", statement, list(skipped_problems(context, consumers)))


def read_models(context: Context) -> Check:
    """Check that analytics equals a rebuild from the log."""
    with empty_copy(ANALYTICS) as copy:
        replay_into(context, ANALYTICS, copy, after=0, up_to=cursor_of(context, ANALYTICS))
        mismatches = [
            f"{difference.table} ({difference.example})" for difference in differences(context, ANALYTICS, copy)
        ]
    return check_result("read_models_match_replay", "analytics equals a rebuild from the log", mismatches)


def _entry_mismatches(context: Context) -> Iterator[str]:
    columns = ", ".join(ENTRY_FIELDS).replace("user_id", "employee_id")
    stored = context.connection.stream(f"SELECT {columns} FROM billing_entries ORDER BY position")
    for entry, posted in zip_longest(stored, _posted_entries(context)):
        if entry != posted:
            yield f"entry {(entry or posted or UNREADABLE_ENTRY)[0]} ({_differing_fields(entry, posted)})"


def _differing_fields(entry: Row | None, posted: Row | None) -> str:
    if entry is None:
        return "published but not in the ledger"
    if posted is None:
        return "in the ledger but not published"
    fields = zip(ENTRY_FIELDS, entry, posted, strict=True)
    return ", ".join(
        f"{name} is {stored_value}, published as {published_value}"
        for name, stored_value, published_value in fields
        if stored_value != published_value
    )


def _posted_entries(context: Context) -> Iterator[Row]:
    """Yield every entry as its ``entry_posted`` published it, in the order of the log."""
    stored_date = cache(date.isoformat)
    for sequence, event in read_events(context, EntryPosted):
        yield UNREADABLE_ENTRY if event is None else _entry_fields(event, stored_date)
        if not sequence % PROGRESS_EVENTS:
            context.progress("Verifying entries", sequence, context.position)


def _entry_fields(event: CheckedEvent[EntryPosted], stored_date: Callable[[date], str]) -> Row:
    """Return the values of ``ENTRY_FIELDS``."""
    posted = event.data
    return (
        posted.entry_id,
        posted.user_id,
        posted.kind,
        posted.amount_cents,
        stored_date(posted.business_date),
        posted.task_id,
        posted.corrects,
        event.causationid,
        *debit_and_credit(posted.kind, posted.user_id),
        normalize_time(event.time),
    )


def _wrong_causes(context: Context) -> Iterator[str]:
    """Describe entries whose cause is missing or has the wrong type or time.

    A correction must occur when it is recorded, because its cause is the earlier event of the wrong entry.
    """
    for entry_id, kind, expected_type, cause_type, occurred_at, caused_at in context.connection.stream(
        SELECT_WRONG_CAUSES
    ):
        if cause_type != expected_type:
            yield f"entry {entry_id} (a {kind} caused by {cause_type or 'no event in the log'})"
        elif occurred_at != normalize_time(str(caused_at)):
            yield f"entry {entry_id} (occurred_at is {occurred_at}, its cause was at {caused_at})"

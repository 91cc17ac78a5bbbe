"""Invariants that need Python: the ledger against its events, closed days, the consumers' cursors, analytics."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date
from functools import cache
from itertools import islice

from popug_cli.analytics.consumers import CONSUMER as ANALYTICS
from popug_cli.analytics.consumers import write_changes
from popug_cli.analytics.rules import Changes, accumulate
from popug_cli.audit.log_pass import LogCheck, differing_rows, has_enough
from popug_cli.audit.reading import CheckedEvent, normalize_time
from popug_cli.audit.rebuild import cursor_of, differences, empty_copy, parked_positions
from popug_cli.audit.result import MAX_SHOWN_VIOLATIONS, check_result
from popug_cli.billing import sql
from popug_cli.billing.consumers import CONSUMER as BILLING
from popug_cli.billing.rules import debit_and_credit
from popug_cli.bus.context import Context
from popug_cli.bus.log import IS_RARE
from popug_cli.bus.status import skipped_problems
from popug_cli.kernel.stored_values import from_iso_date
from popug_cli.mail.consumers import CONSUMER as MAIL
from popug_cli.messages.base import EVENTS, Event
from popug_cli.messages.billing import EntryPosted
from popug_cli.messages.company import Check
from popug_cli.messages.upcasters import UPCASTERS, upcast
from popug_cli.storage.id_index import equal_ids
from popug_cli.storage.port import Database, Row
from popug_cli.tasks.consumers import CONSUMER as TASKS

# The fields of an entry that are compared with its event. Millions are compared, so they are plain tuples.
ENTRY_FIELDS = (
    *("entry_id", "user_id", "kind", "amount_cents", "business_date", "task_id", "corrects", "event_id"),
    *("debit_account", "credit_account", "recorded_at"),
)
UNREADABLE_ENTRY = ("unreadable", *[""] * (len(ENTRY_FIELDS) - 1))
REBUILD_EVENTS = 10_000
SELECT_INCOME = f"""
    SELECT entries.business_date, entries.income, day.fees_cents - day.rewards_cents
    FROM (SELECT business_date, sum({sql.FEES} - {sql.REWARDS}) AS income
        FROM billing_entries entry GROUP BY business_date) AS entries
    LEFT JOIN analytics_days day ON day.business_date = entries.business_date
    ORDER BY entries.business_date
"""
SELECT_IS_ANALYTICS_UP_TO_DATE = f"""
    SELECT NOT EXISTS (SELECT 1 FROM bus_set_aside WHERE consumer = 'analytics')
        AND coalesce((SELECT position FROM bus_cursors WHERE consumer = 'analytics'), 0)
        >= coalesce((SELECT max(sequence) FROM bus_log WHERE type = '{EntryPosted.TYPE}'), 0)
"""
# Before days were ended by events, a reversal could be dated before its entry if the clock was set back.
TIME_OF_FIRST_END = (
    "(SELECT json_extract(envelope, '$.time') FROM bus_log WHERE type = 'popug.tasks.day_ended.v1'"
    f" AND {IS_RARE} ORDER BY +sequence LIMIT 1)"
)
SELECT_WRONG_CAUSES = f"""
    SELECT * FROM (
        SELECT entry.entry_id, entry.kind, CASE entry.kind
                WHEN 'fee' THEN 'popug.tasks.task_assigned.v1' WHEN 'reward' THEN 'popug.tasks.task_completed.v1'
                WHEN 'payout' THEN CASE log.type WHEN 'popug.billing.payout_made.v1' THEN log.type
                    ELSE 'popug.billing.payout_made.v2' END
                ELSE 'popug.billing.entry_posted.v1' END AS expected_type,
            log.type AS cause_type, entry.occurred_at, entry.business_date,
            CASE WHEN entry.corrects IS NULL THEN json_extract(log.envelope, '$.businessdate')
                WHEN entry.recorded_at > {TIME_OF_FIRST_END} THEN json_extract(log.envelope, '$.data.business_date') END
                AS earliest_date,
            CASE WHEN entry.corrects IS NULL THEN json_extract(log.envelope, '$.time') ELSE entry.recorded_at END
                AS caused_at
        FROM billing_entries entry LEFT JOIN bus_log log ON {equal_ids("log.id", "entry.event_id")}
    ) AS caused WHERE cause_type IS NOT expected_type OR caused_at IS NOT occurred_at OR business_date < earliest_date
"""


def entries_as_posted(context: Context) -> LogCheck:
    """Check that the ledger and the log have the same entries in the same order."""
    columns = ", ".join(ENTRY_FIELDS).replace("user_id", "employee_id")
    stored = context.connection.stream(f"SELECT {columns} FROM billing_entries ORDER BY position")
    stored_date = cache(date.isoformat)
    violations: list[str] = []
    while (batch := (yield)) is not None and not has_enough(violations):
        posted = [
            UNREADABLE_ENTRY if event is None else _entry_fields(event, stored_date)
            for _, event in batch.of(EntryPosted)
        ]
        violations += differing_rows(stored, posted, _describe_difference)
    violations += (_describe_difference(entry, None) for entry in islice(stored, MAX_SHOWN_VIOLATIONS + 1))
    return check_result(
        "entries_match_events", "every entry matches its entry_posted event, in the same order", violations
    )


def income_sources_agree(context: Context) -> LogCheck:
    """Check that the income of every day with entries is the same in events and, if up to date, in analytics."""
    published = defaultdict[date, int](int)
    while (batch := (yield)) is not None:
        for _, event in batch.of(EntryPosted):
            if event is not None:
                kind, day = event.data.kind, event.data.business_date
                published[day] += (kind.fee_sign - kind.reward_sign) * event.data.amount_cents
    in_events = {day.isoformat(): cents for day, cents in published.items()}
    days = context.connection.select(SELECT_INCOME)
    is_up_to_date = context.connection.scalar(SELECT_IS_ANALYTICS_UP_TO_DATE)
    violations = [
        f"day {day}"
        for day, in_entries, in_analytics in days
        if in_entries != in_events.get(day) or (is_up_to_date and in_entries != in_analytics)
    ]
    statement = "the income of every day with entries is the same in events and, if up to date, in analytics"
    return check_result("income_sources_agree", statement, violations)


def entries_have_causes(context: Context) -> Check:
    """Check that every entry has a cause that fits its kind, with the same timestamp."""
    statement = "every entry has a valid cause with the same timestamp, and is not dated before it"
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


def read_models(context: Context) -> LogCheck:
    """Check that analytics equals a rebuild from the log."""
    kinds = [EVENTS[type_] for type_ in ANALYTICS.types]
    parked, last = parked_positions(context, ANALYTICS), cursor_of(context, ANALYTICS)
    changes, count = Changes(), 0
    with empty_copy(ANALYTICS) as copy:
        while (batch := (yield)) is not None:
            for kind in kinds:
                events: list[Event] = [
                    event.data
                    for position, event in batch.of(kind)
                    if event is not None and 0 < position <= last and position not in parked
                ]
                accumulate(map(upcast, events) if kind in UPCASTERS else events, changes)
                count += len(events)
            if count >= REBUILD_EVENTS:
                _add_to_copy(changes, copy)
                changes, count = Changes(), 0
        _add_to_copy(changes, copy)
        mismatches = [
            f"{difference.table} ({difference.example})" for difference in differences(context, ANALYTICS, copy)
        ]
    return check_result("read_models_match_replay", "analytics equals a rebuild from the log", mismatches)


def _add_to_copy(changes: Changes, copy: Database) -> None:
    with copy.transaction(writes=True) as connection:
        write_changes(changes, connection)


def _describe_difference(entry: Row | None, posted: Row | None) -> str:
    return f"entry {(entry or posted or UNREADABLE_ENTRY)[0]} ({_differing_fields(entry, posted)})"


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
    """Describe entries whose cause is missing, has the wrong type or time, or counts for a later date.

    A correction must occur when it is recorded, because its cause is the earlier event of the wrong entry.
    """
    rows = context.connection.stream(SELECT_WRONG_CAUSES)
    for entry_id, kind, expected_type, cause_type, occurred_at, business_date, earliest_date, caused_at in rows:
        if cause_type != expected_type:
            yield f"entry {entry_id} (a {kind} caused by {cause_type or 'no event in the log'})"
        elif occurred_at != normalize_time(str(caused_at)):
            yield f"entry {entry_id} (occurred_at is {occurred_at}, its cause was at {caused_at})"
        elif earliest_date is not None and business_date < earliest_date:
            yield f"entry {entry_id} (dated {business_date}, its cause counts for {earliest_date})"

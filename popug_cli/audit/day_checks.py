"""Checks of the days that tasks ends: their events, their rows, and the dates that events of tasks count for."""

from bisect import bisect
from collections.abc import Callable, Iterator
from functools import cache

from popug_cli.audit.log_pass import LogCheck, has_enough
from popug_cli.audit.reading import read_rare_events
from popug_cli.audit.result import check_result
from popug_cli.audit.sql_invariants import Invariant, processed_by
from popug_cli.bus.context import Context
from popug_cli.bus.log import IS_RARE
from popug_cli.kernel.clock import from_rfc3339
from popug_cli.kernel.stored_values import from_iso_date
from popug_cli.messages.identity import UserRegistered
from popug_cli.messages.tasks import DayEnded, TaskAssigned, TaskCompleted, TaskCreated

SELECT_OTHER_FIRST_DAY = (
    "SELECT first_day FROM tasks_company WHERE first_day NOT IN (SELECT first_day FROM billing_company)"
    " AND EXISTS (SELECT 1 FROM billing_company) AND NOT EXISTS (SELECT 1 FROM bus_relay)"
)
IS_END = f"type = 'popug.tasks.day_ended.v1' AND {IS_RARE}"
LENGTH_TO_THE_HOUR = len("2026-03-02T09")
CHECKED_KINDS = (TaskCreated, TaskAssigned, TaskCompleted)


def _used_by(service: str) -> str:
    """Return the SQL condition that the database has the whole company, or is that of a service."""
    return f"NOT EXISTS (SELECT 1 FROM bus_relay WHERE service <> '{service}')"


DAY_INVARIANTS = (
    Invariant(
        "ended_days_match_events",
        "every ended day has its day_ended event, in tasks and in billing",
        f"""
        SELECT 'day ' || day.business_date FROM tasks_ended_days day LEFT JOIN bus_log event
            ON event.subject = day.business_date AND event.{IS_END} AND event.id = day.event_id
        WHERE {_used_by("tasks")} AND (day.event_id IS NOT NULL AND (event.id IS NULL
            OR json_extract(event.envelope, '$.data.business_date') IS NOT day.business_date
            OR json_extract(event.envelope, '$.time') IS NOT day.ended_at))
        UNION ALL
        SELECT 'the event at ' || sequence FROM bus_log event WHERE {IS_END} AND {_used_by("tasks")}
            AND NOT EXISTS (SELECT 1 FROM tasks_ended_days day WHERE day.event_id = event.id)
        UNION ALL
        SELECT 'day ' || day.business_date || ' of billing' FROM billing_ended_days day WHERE {_used_by("billing")}
            AND NOT EXISTS (SELECT 1 FROM bus_log event WHERE event.subject = day.business_date AND event.{IS_END})
        UNION ALL
        SELECT 'the event at ' || sequence || ' in billing' FROM bus_log log WHERE {IS_END} AND {_used_by("billing")}
            AND {processed_by("billing")}
            AND NOT EXISTS (SELECT 1 FROM billing_ended_days day WHERE day.business_date = log.subject)
        """,
    ),
    Invariant(
        "closed_days_have_ended",
        "tasks has ended all days up to the last closed one and no others",
        """
        SELECT 'last ended ' || coalesce(ended, 'none') || ', last closed ' || coalesce(closed, 'none') FROM (
            SELECT (SELECT max(business_date) FROM tasks_ended_days) AS ended,
                (SELECT max(business_date) FROM billing_days) AS closed
        ) AS days WHERE ended IS NOT closed AND NOT EXISTS (SELECT 1 FROM bus_relay)
        """,
    ),
)


def business_dates(context: Context) -> LogCheck:
    """Check that events of tasks count for the date of their time or, if that had ended, the first day after it.

    Older events do not say which date they count for, and are not checked. Tasks' first day is checked as well.
    """
    expected = _expected_dates(context)
    violations = [*_wrong_first_day(context)]
    while (batch := (yield)) is not None and not has_enough(violations):
        for kind in CHECKED_KINDS:
            for position, event in batch.of(kind):
                if event is None or event.businessdate is None:
                    continue
                date = expected(position, event.time)
                if event.businessdate != date:
                    violations.append(f"the event at {position} (counts for {event.businessdate}, should for {date})")
    statement = "every event of tasks counts for its date or, if that had ended, the first day after it"
    return check_result("business_dates_follow_ends", statement, violations)


def _wrong_first_day(context: Context) -> Iterator[str]:
    """Yield tasks' first day if it is neither billing's nor the date of a registration.

    The two differ if tasks or billing failed on the first registration and processed it on a later day.
    """
    first_day = context.connection.scalar(SELECT_OTHER_FIRST_DAY)
    if first_day is None:
        return
    times = (from_rfc3339(event.time) for _, event in read_rare_events(context, UserRegistered))
    if first_day not in (context.calendar.date_of(time).isoformat() for time in times):
        yield f"first day {first_day} of tasks"


def _expected_dates(context: Context) -> Callable[[int, str], str]:
    """Return a function from the position and time of an event to its business date; it may raise ``ValueError``."""
    calendar = context.calendar
    ends = [(position, event.data.business_date) for position, event in read_rare_events(context, DayEnded)]
    # The day that was the last closed one when days began to end by events.
    migrated = context.connection.column("SELECT business_date FROM tasks_ended_days WHERE event_id IS NULL")
    positions = [position for position, _ in ends]
    last_ended = [*map(from_iso_date, migrated), *(day for _, day in ends)]
    first_not_ended = [calendar.next_day(day).isoformat() for day in last_ended]
    if not migrated:
        first_not_ended.insert(0, "")

    @cache
    def date_in(hour: str) -> str:
        """Return the local date of all instants of an hour in UTC, or an empty text if they have two."""
        first, last = (calendar.date_of(from_rfc3339(f"{hour}:{rest}Z")) for rest in ("00:00", "59:59.999999"))
        return first.isoformat() if first == last else ""

    def expected(position: int, time: str) -> str:
        in_utc = time[:LENGTH_TO_THE_HOUR] if time.endswith("Z") else ""
        date = (in_utc and date_in(in_utc)) or calendar.date_of(from_rfc3339(time)).isoformat()
        return max(date, first_not_ended[bisect(positions, position)])

    return expected

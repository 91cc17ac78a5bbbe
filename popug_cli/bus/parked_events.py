"""Events that a consumer could not take, and what waits behind them, in the order of their subject."""

from collections.abc import Iterable
from typing import NamedTuple

from popug_cli.bus.context import Context
from popug_cli.bus.retry import next_try, policy_from
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.randomness import random_unit
from popug_cli.storage.engine import execute, select

MAX_ERROR_CHARACTERS = 500
BLOCKING_STATES = "('retrying', 'waiting', 'dead')"


class ParkedItem(NamedTuple):
    """A row of what is set aside."""

    id: int
    sequence: int
    subject: str
    state: str
    attempts: int


def blocked_subjects(context: Context, consumer: str) -> set[str]:
    """The subjects whose later events have to wait."""
    statement = f"SELECT DISTINCT subject FROM bus_set_aside WHERE consumer = :c AND state IN {BLOCKING_STATES}"
    return {subject for (subject,) in select(context.connection, statement, c=consumer)}


def park_behind(context: Context, consumer: str, rows: Iterable[tuple[int, str]]) -> None:
    """Let events, given as (sequence, subject), wait behind what is set aside of their subject."""
    _insert(
        context, [(consumer, n, subject, "waiting", 0, None, "waits", to_rfc3339(context.now)) for n, subject in rows]
    )


def park(context: Context, consumer: str, sequence: int, subject: str, error: Exception) -> None:
    """Keep an event that failed for the first time, for a later try or as a dead letter."""
    state, due_at = _next_state(context, 1, error)
    _insert(context, [(consumer, sequence, subject, state, 1, due_at, describe(error), to_rfc3339(context.now))])


def record_failure(context: Context, item: ParkedItem, error: Exception) -> None:
    """Count one more failure of what is set aside."""
    state, due_at = _next_state(context, item.attempts + 1, error)
    statement = (
        "UPDATE bus_set_aside SET state = :state, attempts = attempts + 1, due_at = :due_at, error = :error"
        " WHERE id = :id"
    )
    execute(context.connection, statement, state=state, due_at=due_at, error=describe(error), id=item.id)


def unpark(context: Context, item: ParkedItem) -> None:
    """The event is done."""
    execute(context.connection, "DELETE FROM bus_set_aside WHERE id = :id", id=item.id)


def due_subjects(context: Context, consumer: str, due_by: str) -> list[str]:
    """The subjects whose first event is to be tried again by an instant (a stamp)."""
    statement = (
        "SELECT subject FROM bus_set_aside WHERE consumer = :c AND state = 'retrying' AND due_at <= :due_by"
        " ORDER BY sequence"
    )
    return [subject for (subject,) in select(context.connection, statement, c=consumer, due_by=due_by)]


def consumers_due(context: Context, due_by: str) -> set[str]:
    """The consumers that have something to try again by an instant (a stamp)."""
    statement = "SELECT DISTINCT consumer FROM bus_set_aside WHERE state = 'retrying' AND due_at <= :due_by"
    return {consumer for (consumer,) in select(context.connection, statement, due_by=due_by)}


def parked_items_of(context: Context, consumer: str, subject: str) -> list[ParkedItem]:
    """What is set aside of one subject, in order."""
    statement = (
        f"SELECT id, sequence, subject, state, attempts FROM bus_set_aside WHERE state IN {BLOCKING_STATES}"
        " AND consumer = :c AND subject = :s ORDER BY sequence"
    )
    return [ParkedItem(*row) for row in select(context.connection, statement, c=consumer, s=subject)]


def describe(error: Exception) -> str:
    """One line about an error, for people, of bounded length."""
    words = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {words}"[:MAX_ERROR_CHARACTERS]


def _next_state(context: Context, attempts: int, error: Exception) -> tuple[str, str | None]:
    wait = next_try(attempts, error, policy_from(context.settings), random_unit(context.randomness))
    return ("dead", None) if wait is None else ("retrying", to_rfc3339(context.now + wait))


def _insert(context: Context, rows: list[tuple[str, int, str, str, int, str | None, str, str]]) -> None:
    for row in rows:
        context.connection.exec_driver_sql(
            "INSERT INTO bus_set_aside (consumer, sequence, subject, state, attempts, due_at, error, since)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (consumer, sequence) DO NOTHING",
            row,
        )

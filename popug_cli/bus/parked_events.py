"""Parked events: those that a consumer failed on, and later ones of the same subject that wait behind them."""

from collections.abc import Iterable
from typing import NamedTuple

from popug_cli.bus.context import Context
from popug_cli.bus.retry import policy_from, retry_wait
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.randomness import random_unit

MAX_ERROR_CHARACTERS = 500
BLOCKING_STATES = "('retrying', 'waiting', 'dead')"


class ParkedItem(NamedTuple):
    """The columns of a row of ``bus_set_aside`` that a retry needs."""

    id: int
    sequence: int
    subject: str
    state: str
    attempts: int


def blocked_subjects(context: Context, consumer: str) -> set[str]:
    """Return the subjects of which an event is parked, so that later ones must wait."""
    statement = f"SELECT DISTINCT subject FROM bus_set_aside WHERE consumer = :consumer AND state IN {BLOCKING_STATES}"
    return set(context.connection.column(statement, consumer=consumer))


def park_behind(context: Context, consumer: str, rows: Iterable[tuple[int, str]]) -> None:
    """Park events, given as (sequence, subject), behind an earlier parked event of the same subject."""
    now = to_rfc3339(context.now)
    _insert(context, [(consumer, sequence, subject, "waiting", 0, None, "waits", now) for sequence, subject in rows])


def park(context: Context, consumer: str, sequence: int, subject: str, error: Exception) -> None:
    """Park an event that failed for the first time, for a retry or as a dead letter."""
    state, due_at = _next_state(context, 1, error)
    _insert(context, [(consumer, sequence, subject, state, 1, due_at, describe(error), to_rfc3339(context.now))])


def record_failure(context: Context, item: ParkedItem, error: Exception) -> None:
    """Record a further failure of a parked event: it is retried later, or becomes a dead letter."""
    state, due_at = _next_state(context, item.attempts + 1, error)
    statement = (
        "UPDATE bus_set_aside SET state = :state, attempts = attempts + 1, due_at = :due_at, error = :error"
        " WHERE id = :id"
    )
    context.connection.execute(statement, state=state, due_at=due_at, error=describe(error), id=item.id)


def unpark(context: Context, item: ParkedItem) -> None:
    """Remove a parked event that is done."""
    context.connection.execute("DELETE FROM bus_set_aside WHERE id = :id", id=item.id)


def due_subjects(context: Context, consumer: str, due_by: str) -> list[str]:
    """Return the subjects whose first parked event is due by ``due_by``, an RFC 3339 text, oldest event first."""
    statement = (
        "SELECT subject FROM bus_set_aside WHERE consumer = :consumer AND state = 'retrying' AND due_at <= :due_by"
        " ORDER BY sequence"
    )
    return context.connection.column(statement, consumer=consumer, due_by=due_by)


def consumers_due(context: Context, due_by: str) -> set[str]:
    """Return the consumers that have a retry due by ``due_by``, an RFC 3339 text."""
    statement = "SELECT DISTINCT consumer FROM bus_set_aside WHERE state = 'retrying' AND due_at <= :due_by"
    return set(context.connection.column(statement, due_by=due_by))


def parked_items_of(context: Context, consumer: str, subject: str) -> list[ParkedItem]:
    """Return the parked events of one subject, in log order."""
    statement = (
        f"SELECT id, sequence, subject, state, attempts FROM bus_set_aside WHERE state IN {BLOCKING_STATES}"
        " AND consumer = :consumer AND subject = :subject ORDER BY sequence"
    )
    return [ParkedItem(*row) for row in context.connection.select(statement, consumer=consumer, subject=subject)]


def set_aside_states(context: Context, consumer: str) -> set[str]:
    """Return the states of the events that a consumer has set aside: retrying, waiting, dead or dropped."""
    statement = "SELECT DISTINCT state FROM bus_set_aside WHERE consumer = :consumer"
    return set(context.connection.column(statement, consumer=consumer))


def describe(error: Exception) -> str:
    """Return one line of at most ``MAX_ERROR_CHARACTERS`` that describes an error."""
    words = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {words}"[:MAX_ERROR_CHARACTERS]


def _next_state(context: Context, attempts: int, error: Exception) -> tuple[str, str | None]:
    wait = retry_wait(attempts, error, policy_from(context.settings), random_unit(context.randomness))
    return ("dead", None) if wait is None else ("retrying", to_rfc3339(context.now + wait))


def _insert(context: Context, rows: list[tuple[str, int, str, str, int, str | None, str, str]]) -> None:
    for row in rows:
        context.connection.execute(
            "INSERT INTO bus_set_aside (consumer, sequence, subject, state, attempts, due_at, error, since)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (consumer, sequence) DO NOTHING",
            *row,
        )

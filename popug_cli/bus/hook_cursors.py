"""The cursor of each hook, and its dead letters.

A hook's event is leased in one transaction and marked as done or failed in another: delivery is at least once.
``types`` are the event types that a hook receives, None for all. ``lease`` is the duration of a lease.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from popug_cli.bus.context import Context
from popug_cli.bus.log import ENVELOPE, decode_text
from popug_cli.bus.retry import policy_from, retry_wait
from popug_cli.kernel.clock import from_rfc3339, to_rfc3339
from popug_cli.kernel.randomness import random_unit
from popug_cli.storage.port import Connection

MAX_ERROR_CHARACTERS = 500
MIN_SKIPPED_EVENTS = 100
DELETED_AFTER = timedelta(minutes=10)
Types = Sequence[str] | None
StoredEnvelope = tuple[int, str]  # position and text


class HookCursor(NamedTuple):
    """The columns of a hook's row in ``bus_hooks``; times are RFC 3339 texts."""

    position: int
    attempts: int
    due_at: str | None
    lease_until: str | None
    last_error: str | None
    last_run_at: str | None
    missing_since: str | None


class ClaimedEvent(NamedTuple):
    """An event leased to one process until ``lease_until``, after ``attempts`` failures.

    ``is_dead_letter`` says whether it is a dead letter that the operator requeued.
    """

    hook: str
    sequence: int
    envelope: str
    attempts: int
    lease_until: str
    is_dead_letter: bool


def cursors(context: Context) -> dict[str, HookCursor]:
    """Return the cursors of all known hooks, by name."""
    statement = (
        "SELECT hook, position, attempts, due_at, lease_until, last_error, last_run_at, missing_since"
        " FROM bus_hooks ORDER BY hook"
    )
    rows = context.connection.select(statement)
    return {name: HookCursor(*columns) for name, *columns in rows}


def needs_sync(context: Context, files: Mapping[str, datetime]) -> bool:
    """Return whether ``sync`` has something to do: a hook's file is new, is missing or was missing before."""
    known = cursors(context)
    return known.keys() != files.keys() or any(cursor.missing_since for cursor in known.values())


def sync(context: Context, files: Mapping[str, datetime]) -> None:
    """Synchronize the table with the hook files; ``files`` has the change time of each, by the hook's name.

    A new hook starts at the first event since its file's change time. A hook whose file was first found missing at
    least ``DELETED_AFTER`` ago is deleted with its dead letters; if its file exists again, it starts like a new one.
    """
    oldest_kept = to_rfc3339(context.now - DELETED_AFTER)
    for name, cursor in cursors(context).items():
        if cursor.missing_since and cursor.missing_since <= oldest_kept:
            context.connection.execute("DELETE FROM bus_hook_letters WHERE hook = :hook", hook=name)
            context.connection.execute("DELETE FROM bus_hooks WHERE hook = :hook", hook=name)
    for name, cursor in cursors(context).items():
        missing_since = None if name in files else cursor.missing_since or to_rfc3339(context.now)
        statement = "UPDATE bus_hooks SET missing_since = :missing_since WHERE hook = :hook"
        context.connection.execute(statement, missing_since=missing_since, hook=name)
    statement = (
        "INSERT INTO bus_hooks (hook, position, attempts) VALUES (:hook, :position, 0) ON CONFLICT (hook) DO NOTHING"
    )
    for name in sorted(files.keys() - cursors(context).keys()):
        context.connection.execute(statement, hook=name, position=position_before(context, files[name]))


def position_before(context: Context, instant: datetime) -> int:
    """Return the position of the last event before ``instant``, or 0; the end of the log if it is in the future."""
    if instant > context.now:
        return context.position
    statement = "SELECT sequence FROM bus_log WHERE time < :instant ORDER BY sequence DESC LIMIT 1"
    return int(context.connection.scalar(statement, instant=to_rfc3339(instant)) or 0)


def is_due(context: Context, name: str, types: Types, lease: timedelta) -> bool:
    """Return whether ``lease_next`` has something to do: an event is due, or the cursor is far behind the log's end.

    Return False for a hook that is leased or has no cursor.
    """
    cursor = cursors(context).get(name)
    if cursor is None or _is_ahead(cursor.lease_until, context.now, lease):
        return False
    is_waiting = _is_ahead(cursor.due_at, context.now, _max_wait(context))
    return bool(
        _next_queued_letter(context, name)
        or (not is_waiting and _next_event(context, cursor.position, types))
        or (not is_waiting and context.position - cursor.position >= MIN_SKIPPED_EVENTS)
    )


def lease_next(context: Context, name: str, types: Types, lease: timedelta) -> ClaimedEvent | None:
    """Lease the hook's next event: a requeued dead letter, else the next event in the log that is due.

    Return None if there is none, if the hook is leased, or if it has no cursor. If no later event concerns the hook and
    its cursor is far behind, move the cursor to the end of the log.
    """
    cursor = cursors(context).get(name)
    if cursor is None or _is_ahead(cursor.lease_until, context.now, lease):
        return None
    dead_letter = _next_queued_letter(context, name)
    row = dead_letter
    if row is None and not _is_ahead(cursor.due_at, context.now, _max_wait(context)):
        row = _next_event(context, cursor.position, types)
        if row is None and context.position - cursor.position >= MIN_SKIPPED_EVENTS:
            _set_position(context, name, context.position)
    if row is None:
        return None
    until = to_rfc3339(context.now + lease)
    statement = "UPDATE bus_hooks SET lease_until = :until, last_run_at = :now WHERE hook = :hook"
    context.connection.execute(statement, until=until, now=to_rfc3339(context.now), hook=name)
    return ClaimedEvent(name, *row, cursor.attempts, until, dead_letter is not None)


def mark_done(context: Context, claimed: ClaimedEvent) -> None:
    """Record that the hook processed the event, if its lease is still held."""
    if not _end_lease(context, claimed):
        return
    if claimed.is_dead_letter:
        _remove_dead_letter(context, claimed)
    else:
        _set_position(context, claimed.hook, claimed.sequence)


def mark_failed(context: Context, claimed: ClaimedEvent, error: str) -> bool:
    """Record that the hook failed, if its lease is still held; return whether the event is a dead letter now.

    An event with attempts left is retried after a back-off; a requeued dead letter is a dead letter again.
    """
    if not _end_lease(context, claimed):
        return False
    error, attempts = error[:MAX_ERROR_CHARACTERS], claimed.attempts + 1
    if claimed.is_dead_letter:
        statement = (
            "UPDATE bus_hook_letters SET state = 'dead', attempts = attempts + 1, error = :error"
            " WHERE hook = :hook AND sequence = :sequence"
        )
        context.connection.execute(statement, error=error, hook=claimed.hook, sequence=claimed.sequence)
        return True
    wait = retry_wait(attempts, RuntimeError(error), policy_from(context.settings), random_unit(context.randomness))
    if wait is None:
        _add_dead_letter(context, claimed, attempts, error)
        return True
    statement = "UPDATE bus_hooks SET attempts = :attempts, due_at = :due_at, last_error = :error WHERE hook = :hook"
    due_at = to_rfc3339(context.now + wait)
    context.connection.execute(statement, attempts=attempts, due_at=due_at, error=error, hook=claimed.hook)
    return False


def release(context: Context, claimed: ClaimedEvent) -> None:
    """End the lease of an event whose run was interrupted; count no attempt."""
    _end_lease(context, claimed)


def forget_all(connection: Connection) -> None:
    """Delete the cursors and the dead letters of all hooks, because the database goes where no hooks are."""
    for table in ("bus_hook_letters", "bus_hooks"):
        connection.execute(f"DELETE FROM {table}")


def requeue_dead_letters(context: Context, name: str) -> int:
    """Queue the hook's dead letters again and make its pending retry due; return their number."""
    context.connection.execute("UPDATE bus_hooks SET due_at = NULL WHERE hook = :hook", hook=name)
    statement = "UPDATE bus_hook_letters SET state = 'queued' WHERE hook = :hook AND state = 'dead'"
    return context.connection.execute(statement, hook=name)


def count_pending(context: Context, position: int, types: Types) -> int:
    """Return the number of events of some types, or of any type, after a position."""
    statement = f"SELECT count(*) FROM bus_log WHERE sequence > ?{_type_condition(types)}"
    return int(context.connection.scalar(statement, position, *(types or ())))


def dead_letters_of(context: Context, name: str) -> tuple[int, int, str | None]:
    """Return how many dead letters of a hook are not requeued, how many are requeued, and the last one's error."""
    statement = "SELECT state, error FROM bus_hook_letters WHERE hook = ? ORDER BY since, sequence"
    rows = context.connection.select(statement, name)
    dead = sum(state == "dead" for state, _ in rows)
    return dead, len(rows) - dead, rows[-1][1] if rows else None


def last_event(context: Context, types: Types) -> StoredEnvelope | None:
    """Return the last event of some types, or of any type; None if there is none."""
    return _first_row(context, f"WHERE true{_type_condition(types)} ORDER BY sequence DESC", tuple(types or ()))


def is_leased(cursor: HookCursor, now: datetime, lease: timedelta) -> bool:
    """Return whether the hook is leased to a process; a lease longer than ``lease`` does not count."""
    return _is_ahead(cursor.lease_until, now, lease)


def _is_ahead(instant: str | None, now: datetime, limit: timedelta) -> bool:
    """Return whether ``instant`` is in the future, but at most ``limit`` away.

    An instant further ahead was written before the clock was set back.
    """
    return instant is not None and now < from_rfc3339(instant) <= now + limit


def _next_queued_letter(context: Context, hook: str) -> StoredEnvelope | None:
    clause = "JOIN bus_hook_letters USING (sequence) WHERE hook = ? AND state = 'queued' ORDER BY sequence"
    return _first_row(context, clause, (hook,))


def _next_event(context: Context, position: int, types: Types) -> StoredEnvelope | None:
    return _first_row(
        context, f"WHERE sequence > ?{_type_condition(types)} ORDER BY sequence", (position, *(types or ()))
    )


def _first_row(context: Context, clause: str, parameters: tuple[object, ...]) -> StoredEnvelope | None:
    statement = f"SELECT sequence, {ENVELOPE} FROM bus_log {clause} LIMIT 1"
    row = context.connection.select_one(statement, *parameters)
    return (row[0], decode_text(row[1])) if row else None


def _type_condition(types: Types) -> str:
    return "" if types is None else f" AND type IN ({','.join('?' * len(types))})"


def _end_lease(context: Context, claimed: ClaimedEvent) -> bool:
    """End a lease; return whether this process still held it."""
    statement = "UPDATE bus_hooks SET lease_until = NULL WHERE hook = :hook AND lease_until = :until"
    return context.connection.execute(statement, hook=claimed.hook, until=claimed.lease_until) == 1


def _set_position(context: Context, name: str, position: int) -> None:
    statement = (
        "UPDATE bus_hooks SET position = :position, attempts = 0, due_at = NULL, last_error = NULL WHERE hook = :hook"
    )
    context.connection.execute(statement, position=position, hook=name)


def _add_dead_letter(context: Context, claimed: ClaimedEvent, attempts: int, error: str) -> None:
    statement = (
        "INSERT INTO bus_hook_letters (hook, sequence, state, attempts, error, since)"
        " VALUES (:hook, :sequence, 'dead', :attempts, :error, :now) ON CONFLICT (hook, sequence) DO NOTHING"
    )
    now = to_rfc3339(context.now)
    context.connection.execute(
        statement,
        hook=claimed.hook,
        sequence=claimed.sequence,
        attempts=attempts,
        error=error,
        now=now,
    )
    _set_position(context, claimed.hook, claimed.sequence)


def _remove_dead_letter(context: Context, claimed: ClaimedEvent) -> None:
    statement = "DELETE FROM bus_hook_letters WHERE hook = :hook AND sequence = :sequence"
    context.connection.execute(statement, hook=claimed.hook, sequence=claimed.sequence)


def _max_wait(context: Context) -> timedelta:
    return timedelta(seconds=context.settings.number("bus.retry_cap_seconds"))

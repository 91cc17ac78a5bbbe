"""Where each hook stands in the log: claimed with a lease in one transaction, settled in another, at least once."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from popug_cli.bus.log import ENVELOPE, readable
from popug_cli.bus.retry import Policy, next_try
from popug_cli.bus.runtime import Context
from popug_cli.kernel.chance import unit_interval
from popug_cli.kernel.clock import parse_stamp, stamp
from popug_cli.storage.engine import change, driver_of, scalar

MAX_ERROR_CHARACTERS = 500
IDLE_EVENTS = 100
FORGOTTEN_AFTER = timedelta(minutes=10)
Types = Sequence[str] | None
Stored = tuple[int, str]


class Place(NamedTuple):
    """A row about a hook; times are stamps."""

    position: int
    attempts: int
    due_at: str | None
    lease_until: str | None
    last_error: str | None
    last_run_at: str | None
    missing_since: str | None


class Claimed(NamedTuple):
    """An event that is one process's to give to a hook until ``lease_until``; ``again`` if it was a dead letter."""

    hook: str
    sequence: int
    envelope: str
    attempts: int
    lease_until: str
    again: bool


def places(context: Context) -> dict[str, Place]:
    """Every hook that is known, by name."""
    statement = (
        "SELECT hook, position, attempts, due_at, lease_until, last_error, last_run_at, missing_since"
        " FROM bus_hooks ORDER BY hook"
    )
    rows = driver_of(context.connection).execute(statement).fetchall()
    return {name: Place(*rest) for name, *rest in rows}


def has_changed(context: Context, files: Mapping[str, datetime]) -> bool:
    """Whether ``keep_up`` has something to do."""
    known = places(context)
    return known.keys() != files.keys() or any(place.missing_since for place in known.values())


def keep_up(context: Context, files: Mapping[str, datetime]) -> None:
    """Know the hooks that are there, each with when its file was last changed: a new one begins with what came then.

    One that was gone for a while is forgotten with all that it has set aside, and begins anew if it comes back.
    """
    long_ago = stamp(context.now - FORGOTTEN_AFTER)
    for name, place in places(context).items():
        if place.missing_since and place.missing_since <= long_ago:
            change(context.connection, "DELETE FROM bus_hook_letters WHERE hook = :hook", hook=name)
            change(context.connection, "DELETE FROM bus_hooks WHERE hook = :hook", hook=name)
    for name, place in places(context).items():
        missing = None if name in files else place.missing_since or stamp(context.now)
        statement = "UPDATE bus_hooks SET missing_since = :missing WHERE hook = :hook"
        change(context.connection, statement, missing=missing, hook=name)
    statement = (
        "INSERT INTO bus_hooks (hook, position, attempts) VALUES (:hook, :position, 0) ON CONFLICT (hook) DO NOTHING"
    )
    for name in sorted(files.keys() - places(context).keys()):
        change(context.connection, statement, hook=name, position=position_before(context, files[name]))


def position_before(context: Context, instant: datetime) -> int:
    """The last position of what happened before an instant; the log's end where the instant is yet to come."""
    if instant > context.now:
        return context.position
    statement = (
        "SELECT sequence FROM bus_log WHERE json_extract(envelope, '$.time') < :instant ORDER BY sequence DESC LIMIT 1"
    )
    return int(scalar(context.connection, statement, instant=stamp(instant)) or 0)


def is_due(context: Context, name: str, types: Types, lease: timedelta) -> bool:
    """Whether there is something for a hook now, or its place is far behind the end of the log."""
    place = places(context).get(name)
    if place is None or _is_ahead(place.lease_until, context.now, lease):
        return False
    waits = _is_ahead(place.due_at, context.now, _longest_wait(context))
    return bool(
        _next_letter(context, name)
        or (not waits and _next_event(context, place.position, types))
        or (not waits and context.position - place.position >= IDLE_EVENTS)
    )


def claim(context: Context, name: str, types: Types, lease: timedelta) -> Claimed | None:
    """Lease a hook's next event: a dead letter that was queued, else what comes next in the log, if it is due."""
    place = places(context).get(name)
    if place is None or _is_ahead(place.lease_until, context.now, lease):
        return None
    letter = _next_letter(context, name)
    row = letter
    if row is None and not _is_ahead(place.due_at, context.now, _longest_wait(context)):
        row = _next_event(context, place.position, types)
        if row is None and context.position - place.position >= IDLE_EVENTS:
            _move(context, name, context.position)
    if row is None:
        return None
    until = stamp(context.now + lease)
    statement = "UPDATE bus_hooks SET lease_until = :until, last_run_at = :now WHERE hook = :hook"
    change(context.connection, statement, until=until, now=stamp(context.now), hook=name)
    return Claimed(name, *row, place.attempts, until, letter is not None)


def succeeded(context: Context, claimed: Claimed) -> None:
    """The hook took it."""
    if not _give_back(context, claimed):
        return
    if claimed.again:
        _drop_letter(context, claimed)
    else:
        _move(context, claimed.hook, claimed.sequence)


def failed(context: Context, claimed: Claimed, error: str) -> bool:
    """The hook failed: it is due again after a while, or the event is a dead letter now, which is answered."""
    if not _give_back(context, claimed):
        return False
    error, attempts = error[:MAX_ERROR_CHARACTERS], claimed.attempts + 1
    if claimed.again:
        statement = (
            "UPDATE bus_hook_letters SET state = 'dead', attempts = attempts + 1, error = :error"
            " WHERE hook = :hook AND sequence = :sequence"
        )
        change(context.connection, statement, error=error, hook=claimed.hook, sequence=claimed.sequence)
        return True
    wait = next_try(attempts, RuntimeError(error), _policy(context), unit_interval(context.chance))
    if wait is None:
        _set_aside(context, claimed, attempts, error)
        return True
    statement = "UPDATE bus_hooks SET attempts = :attempts, due_at = :due_at, last_error = :error WHERE hook = :hook"
    due_at = stamp(context.now + wait)
    change(context.connection, statement, attempts=attempts, due_at=due_at, error=error, hook=claimed.hook)
    return False


def give_back(context: Context, claimed: Claimed) -> None:
    """It was not tried to the end, through no fault of the hook's."""
    _give_back(context, claimed)


def queue_letters(context: Context, name: str) -> int:
    """Have a hook's dead letters tried once more, and what waits for a later try now; their number comes back."""
    change(context.connection, "UPDATE bus_hooks SET due_at = NULL WHERE hook = :hook", hook=name)
    statement = "UPDATE bus_hook_letters SET state = 'queued' WHERE hook = :hook AND state = 'dead'"
    return change(context.connection, statement, hook=name)


def count_waiting(context: Context, position: int, types: Types) -> int:
    """How many events for a hook come after a position."""
    statement = f"SELECT count(*) FROM bus_log WHERE sequence > ?{_of(types)}"
    return int(driver_of(context.connection).execute(statement, (position, *(types or ()))).fetchone()[0])


def letters_of(context: Context, name: str) -> tuple[int, int, str | None]:
    """How many events are dead letters of a hook, how many are queued once more, and the error of the last one."""
    statement = "SELECT state, error FROM bus_hook_letters WHERE hook = ? ORDER BY since, sequence"
    rows = driver_of(context.connection).execute(statement, (name,)).fetchall()
    dead = sum(state == "dead" for state, _ in rows)
    return dead, len(rows) - dead, rows[-1][1] if rows else None


def last_event(context: Context, types: Types) -> Stored | None:
    """The last event of some types, or of any."""
    return _first_row(context, f"WHERE true{_of(types)} ORDER BY sequence DESC", tuple(types or ()))


def is_leased(place: Place, now: datetime, lease: timedelta) -> bool:
    """Whether somebody is running a hook."""
    return _is_ahead(place.lease_until, now, lease)


def _is_ahead(instant: str | None, now: datetime, longest: timedelta) -> bool:
    """Whether something is yet to come, by a clock that was not set back since it was written down."""
    return instant is not None and now < parse_stamp(instant) <= now + longest


def _next_letter(context: Context, name: str) -> Stored | None:
    rest = "JOIN bus_hook_letters letter USING (sequence) WHERE hook = ? AND state = 'queued' ORDER BY sequence"
    return _first_row(context, rest, (name,))


def _next_event(context: Context, position: int, types: Types) -> Stored | None:
    return _first_row(context, f"WHERE sequence > ?{_of(types)} ORDER BY sequence", (position, *(types or ())))


def _first_row(context: Context, rest: str, parameters: tuple[object, ...]) -> Stored | None:
    statement = f"SELECT sequence, {ENVELOPE} FROM bus_log {rest} LIMIT 1"
    found = driver_of(context.connection).execute(statement, parameters).fetchone()
    return (found[0], readable(found[1])) if found else None


def _of(types: Types) -> str:
    return "" if types is None else f" AND type IN ({','.join('?' * len(types))})"


def _give_back(context: Context, claimed: Claimed) -> bool:
    """End a lease; whether it was still ours."""
    statement = "UPDATE bus_hooks SET lease_until = NULL WHERE hook = :hook AND lease_until = :until"
    return change(context.connection, statement, hook=claimed.hook, until=claimed.lease_until) == 1


def _move(context: Context, name: str, position: int) -> None:
    statement = (
        "UPDATE bus_hooks SET position = :position, attempts = 0, due_at = NULL, last_error = NULL WHERE hook = :hook"
    )
    change(context.connection, statement, position=position, hook=name)


def _set_aside(context: Context, claimed: Claimed, attempts: int, error: str) -> None:
    statement = (
        "INSERT INTO bus_hook_letters (hook, sequence, state, attempts, error, since)"
        " VALUES (:hook, :sequence, 'dead', :attempts, :error, :now) ON CONFLICT (hook, sequence) DO NOTHING"
    )
    now = stamp(context.now)
    change(
        context.connection,
        statement,
        hook=claimed.hook,
        sequence=claimed.sequence,
        attempts=attempts,
        error=error,
        now=now,
    )
    _move(context, claimed.hook, claimed.sequence)


def _drop_letter(context: Context, claimed: Claimed) -> None:
    statement = "DELETE FROM bus_hook_letters WHERE hook = :hook AND sequence = :sequence"
    change(context.connection, statement, hook=claimed.hook, sequence=claimed.sequence)


def _longest_wait(context: Context) -> timedelta:
    return timedelta(seconds=context.settings.number("bus.retry_cap_seconds"))


def _policy(context: Context) -> Policy:
    number = context.settings.number
    return Policy(number("bus.max_attempts"), number("bus.retry_seconds"), number("bus.retry_cap_seconds"))

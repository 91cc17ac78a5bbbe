"""Who may hold tasks, now and as of a position in the log, and what people are called."""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import bindparam, text

from popug_cli.bus.context import Context
from popug_cli.messages.base import Role
from popug_cli.storage.engine import insert_many, scalar
from popug_cli.tasks.rules import Person

VALUES_PER_QUERY = 500
CANDIDATE_SETS_KEPT = 64


def assignable(context: Context) -> list[str]:
    """The ids of those who may hold tasks now, in ascending order."""
    statement = text("SELECT user_id FROM tasks_people WHERE assignable = 1 ORDER BY user_id")
    return list(context.connection.execute(statement).scalars())


def assignable_as_of(context: Context, position: int) -> list[str]:
    """The ids of those who might hold tasks as of a position in the log, in ascending order."""
    statement = text(
        "SELECT user_id FROM tasks_people_history AS h WHERE assignable = 1 AND from_position = (SELECT"
        " max(from_position) FROM tasks_people_history WHERE user_id = h.user_id AND from_position <= :position)"
        " ORDER BY user_id"
    )
    return list(context.connection.execute(statement, {"position": position}).scalars())


class Candidates:
    """Who might hold tasks as of any position in the log, asked for once between two changes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        statement = text("SELECT DISTINCT from_position FROM tasks_people_history ORDER BY from_position")
        self._changes = list(context.connection.execute(statement).scalars())
        self._known: dict[int, list[str]] = {}

    def last_change(self, position: int) -> int:
        """The position of the last change up to a position; 0 before any."""
        index = bisect_right(self._changes, position)
        return self._changes[index - 1] if index else 0

    def as_of(self, position: int) -> list[str]:
        """The ids of those who might hold tasks then, in ascending order."""
        change = self.last_change(position)
        if change not in self._known:
            if len(self._known) >= CANDIDATE_SETS_KEPT:
                self._known.clear()
            self._known[change] = assignable_as_of(self._context, change)
        return self._known[change]


def known_up_to(context: Context) -> int:
    """The position in the log up to which people are known.

    It is the context's own, unless a change that was set aside once was taken in later than others.
    """
    return max(context.position, _last_change(context))


def usernames(context: Context, user_ids: Collection[str]) -> dict[str, str]:
    """The usernames of those ids; who is not known is called by the id."""
    statement = "SELECT user_id, username FROM tasks_people WHERE user_id IN :values"
    return dict(zip(user_ids, user_ids, strict=True)) | {
        row.user_id: row.username for row in select_in_chunks(context, statement, [*user_ids])
    }


def load(context: Context, user_ids: Collection[str]) -> dict[str, Person]:
    """What is known of those who are known."""
    statement = "SELECT user_id, username, role, active, last_sequence FROM tasks_people WHERE user_id IN :values"
    return {
        row.user_id: Person(row.user_id, row.username, Role(row.role), bool(row.active), row.last_sequence)
        for row in select_in_chunks(context, statement, [*user_ids])
    }


def save(context: Context, changed: Sequence[Person]) -> None:
    """Keep what is known of people from now on."""
    insert_many(
        context.connection,
        "INSERT INTO tasks_people (user_id, username, role, active, assignable, last_sequence)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (user_id) DO UPDATE SET role = excluded.role,"
        " active = excluded.active, assignable = excluded.assignable, last_sequence = excluded.last_sequence",
        [(p.user_id, p.username, p.role, int(p.active), int(p.assignable), p.last_sequence) for p in changed],
    )


def record_assignability(context: Context, changed: Sequence[Person]) -> None:
    """Keep from which position on people may hold tasks, or may no more.

    No draw may be done again with people it did not know: where the context's position is not after the last change,
    a draw may have followed that, and then the log has grown.
    """
    position = context.position
    if position <= _last_change(context):
        context.events.flush()
        position = context.log.last_position()
    insert_many(
        context.connection,
        "INSERT INTO tasks_people_history (user_id, from_position, assignable) VALUES (?, ?, ?)"
        " ON CONFLICT (user_id, from_position) DO UPDATE SET assignable = excluded.assignable",
        [(person.user_id, position, int(person.assignable)) for person in changed],
    )


def anybody_assignable(context: Context) -> bool:
    """Whether there is somebody who may hold tasks now."""
    return bool(scalar(context.connection, "SELECT EXISTS (SELECT 1 FROM tasks_people WHERE assignable = 1)"))


def select_in_chunks(context: Context, statement: str, values: Sequence[str]) -> Iterator[Any]:
    """The rows of a statement that asks for ``:values``, a bounded number of them at once."""
    prepared = text(statement).bindparams(bindparam("values", expanding=True))
    for start in range(0, len(values), VALUES_PER_QUERY):
        yield from context.connection.execute(prepared, {"values": values[start : start + VALUES_PER_QUERY]})


def _last_change(context: Context) -> int:
    return scalar(context.connection, "SELECT max(from_position) FROM tasks_people_history") or 0

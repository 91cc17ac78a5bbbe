"""Tasks' copies of users: their names, and which are assignable, now and as of a position in the log."""

from bisect import bisect_right
from collections.abc import Collection, Sequence

from popug_cli.bus.context import Context
from popug_cli.kernel.stored_values import choice_of
from popug_cli.messages.base import Role
from popug_cli.tasks.rules import Person

MAX_CACHED_LISTS = 64


def assignable(context: Context) -> list[str]:
    """Return the ids of the users who are assignable now, in ascending order."""
    statement = "SELECT user_id FROM tasks_people WHERE assignable = 1 ORDER BY user_id"
    return context.connection.column(statement)


def assignable_as_of(context: Context, position: int) -> list[str]:
    """Return the ids of the users who were assignable as of a position in the log, in ascending order."""
    statement = (
        "SELECT user_id FROM tasks_people_history AS history WHERE assignable = 1 AND from_position = (SELECT"
        " max(from_position) FROM tasks_people_history WHERE user_id = history.user_id AND from_position <= :position)"
        " ORDER BY user_id"
    )
    return context.connection.column(statement, position=position)


class Candidates:
    """The assignable users as of any log position, with one cached list for all positions between two changes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        statement = "SELECT DISTINCT from_position FROM tasks_people_history ORDER BY from_position"
        self._changes = context.connection.column(statement)
        self._candidates_by_change: dict[int, list[str]] = {}

    def last_change(self, position: int) -> int:
        """Return the position of the last change up to a position; 0 if there is none."""
        index = bisect_right(self._changes, position)
        return self._changes[index - 1] if index else 0

    def as_of(self, position: int) -> list[str]:
        """Return the ids of the users who were assignable as of a position, in ascending order."""
        change = self.last_change(position)
        if change not in self._candidates_by_change:
            if len(self._candidates_by_change) >= MAX_CACHED_LISTS:
                self._candidates_by_change.clear()
            self._candidates_by_change[change] = assignable_as_of(self._context, change)
        return self._candidates_by_change[change]


def usernames(context: Context, user_ids: Collection[str]) -> dict[str, str]:
    """Return the usernames by user id; the name of an unknown user is the id."""
    statement = "SELECT user_id, username FROM tasks_people WHERE user_id IN"
    return dict(zip(user_ids, user_ids, strict=True)) | {
        **dict(context.connection.select_in(statement, [*user_ids])),
    }


def load(context: Context, user_ids: Collection[str]) -> dict[str, Person]:
    """Return the stored people among ``user_ids``, by id."""
    statement = "SELECT user_id, username, role, active, last_sequence FROM tasks_people WHERE user_id IN"
    return {
        user_id: Person(user_id, username, choice_of(Role, role), bool(active), last_sequence)
        for user_id, username, role, active, last_sequence in context.connection.select_in(statement, [*user_ids])
    }


def save(context: Context, changed: Sequence[Person]) -> None:
    """Insert people, or update those that are stored; a username never changes."""
    context.connection.insert_many(
        "INSERT INTO tasks_people (user_id, username, role, active, assignable, last_sequence)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (user_id) DO UPDATE SET role = excluded.role,"
        " active = excluded.active, assignable = excluded.assignable, last_sequence = excluded.last_sequence",
        [
            (
                person.user_id,
                person.username,
                person.role,
                int(person.active),
                int(person.assignable),
                person.last_sequence,
            )
            for person in changed
        ],
    )


def record_assignability(context: Context, changed: Sequence[Person]) -> None:
    """Record from which log position people are assignable, or are not any more.

    A repeated draw must see the same candidates as the draw itself. A draw may already have recorded the position of
    the last change. If the context's position is not after that one, the new change is recorded at the end of the log.
    """
    position = context.position
    if position <= last_change(context):
        context.events.flush()
        position = context.log.last_position()
    context.connection.insert_many(
        "INSERT INTO tasks_people_history (user_id, from_position, assignable) VALUES (?, ?, ?)"
        " ON CONFLICT (user_id, from_position) DO UPDATE SET assignable = excluded.assignable",
        [(person.user_id, position, int(person.assignable)) for person in changed],
    )


def anybody_assignable(context: Context) -> bool:
    """Return whether any user is assignable now."""
    return bool(context.connection.scalar("SELECT EXISTS (SELECT 1 FROM tasks_people WHERE assignable = 1)"))


def last_change(context: Context) -> int:
    """Return the log position of the last change of the assignable users, or 0."""
    return context.connection.scalar("SELECT max(from_position) FROM tasks_people_history") or 0

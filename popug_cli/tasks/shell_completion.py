"""Shell completion of tasks, shuffles and users, over a plain read-only connection; every user may see these data."""

from popug_cli.storage.id_index import equal_ids
from popug_cli.storage.read_only import ReadOnlyDatabase

MAX_ITEMS = 50
MAX_PEOPLE = 200
MAX_DIGITS = 15
CompletionItems = list[tuple[str, str]]  # value and description


def open_tasks(database: ReadOnlyDatabase, user_id: str, start: str) -> CompletionItems:
    """Return the numbers of a user's open tasks that begin with ``start``, with titles."""
    rows = database.execute(
        f"SELECT number, title FROM tasks_tasks WHERE {equal_ids('assignee_id', '?')} AND status = 'open'"
        " AND substr(number, 1, length(?)) = ? ORDER BY number LIMIT ?",
        (user_id, user_id, start, start, MAX_ITEMS),
    )
    return [(str(number), title) for number, title in rows]


def all_tasks(database: ReadOnlyDatabase, start: str) -> CompletionItems:
    """Return the task numbers that begin with ``start``, the latest first, with titles."""
    if start and not (start.isdecimal() and start.isascii() and len(start) <= MAX_DIGITS):
        return []
    items: CompletionItems = []
    for first, last in _ranges(start):
        rows = database.execute(
            "SELECT number, title FROM tasks_tasks WHERE number BETWEEN ? AND ? ORDER BY number DESC LIMIT ?",
            (first, last, MAX_ITEMS - len(items)),
        )
        items += [(str(number), title) for number, title in rows]
    return items


def shuffles(database: ReadOnlyDatabase, start: str) -> CompletionItems:
    """Return the ids of finished shuffles that begin with ``start``, the latest first, with the time of the request."""
    rows = database.execute(
        "SELECT shuffle_id, requested_at FROM tasks_shuffles WHERE state = 'done'"
        " AND substr(shuffle_id, 1, length(?)) = ? ORDER BY shuffle_id DESC LIMIT ?",
        (start, start, MAX_ITEMS),
    )
    return [(shuffle_id, f"{requested_at[:16].replace('T', ' ')} UTC") for shuffle_id, requested_at in rows]


def assignable_users(database: ReadOnlyDatabase, start: str) -> CompletionItems:
    """Return the usernames of assignable users that begin with ``start``, with roles.

    Every user may see these names, because ``popug tasks fairness`` lists them.
    """
    rows = database.execute(
        "SELECT username, role FROM tasks_people WHERE assignable = 1"
        " AND substr(username, 1, length(?)) = ? ORDER BY username LIMIT ?",
        (start, start, MAX_PEOPLE),
    )
    return list(rows)


def _ranges(start: str) -> list[tuple[int, int]]:
    """Return the ranges of numbers that begin with the digits ``start``, one per number of digits that follow.

    A range lets the query use an index.
    """
    if not start:
        return [(1, 10**MAX_DIGITS)]
    return [
        (int(start) * 10**digits, (int(start) + 1) * 10**digits - 1) for digits in range(MAX_DIGITS + 1 - len(start))
    ]

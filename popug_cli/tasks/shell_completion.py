"""What completion asks of tasks, on a plain read-only connection: what everybody may see."""

import sqlite3

MAX_ITEMS = 50
MAX_PEOPLE = 200
MAX_DIGITS = 15
CompletionItems = list[tuple[str, str]]


def open_tasks(database: sqlite3.Connection, user_id: str, start: str) -> CompletionItems:
    """The numbers of somebody's open tasks that begin so, with titles."""
    rows = database.execute(
        "SELECT number, title FROM tasks_tasks WHERE assignee_id = ? AND status = 'open'"
        " AND substr(number, 1, length(?)) = ? ORDER BY number LIMIT ?",
        (user_id, start, start, MAX_ITEMS),
    )
    return [(str(number), title) for number, title in rows]


def all_tasks(database: sqlite3.Connection, start: str) -> CompletionItems:
    """The numbers that begin so, the latest first, with titles."""
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


def shuffles(database: sqlite3.Connection, start: str) -> CompletionItems:
    """The ids of shuffles that were done and begin so, the latest first, with when."""
    rows = database.execute(
        "SELECT shuffle_id, requested_at FROM tasks_shuffles WHERE state = 'done'"
        " AND substr(shuffle_id, 1, length(?)) = ? ORDER BY shuffle_id DESC LIMIT ?",
        (start, start, MAX_ITEMS),
    )
    return [(shuffle_id, f"{requested_at[:16].replace('T', ' ')} UTC") for shuffle_id, requested_at in rows]


def assignable_users(database: sqlite3.Connection, start: str) -> CompletionItems:
    """The usernames that begin so of those who may hold tasks, with roles: everybody sees how evenly these drew."""
    rows = database.execute(
        "SELECT username, role FROM tasks_people WHERE assignable = 1"
        " AND substr(username, 1, length(?)) = ? ORDER BY username LIMIT ?",
        (start, start, MAX_PEOPLE),
    )
    return list(rows)


def _ranges(start: str) -> list[tuple[int, int]]:
    """The ranges of numbers that begin with some digits, so that an index finds them."""
    if not start:
        return [(1, 10**MAX_DIGITS)]
    return [(int(start) * 10**more, (int(start) + 1) * 10**more - 1) for more in range(MAX_DIGITS + 1 - len(start))]

"""What completion asks of identity, on a plain read-only connection."""

import sqlite3
from typing import NamedTuple

from popug_cli.kernel.jwt_payload import read_unverified_claim

MAX_PEOPLE = 200


class Viewer(NamedTuple):
    """Whose eyes a company is seen with."""

    user_id: str
    role: str


def viewer_of(database: sqlite3.Connection, token: str, now: str) -> Viewer | None:
    """Who holds a token that is good now (a stamp) for everything; its signature is not looked at."""
    row = database.execute(
        "SELECT u.user_id, u.role FROM identity_tokens t JOIN identity_users u ON u.user_id = t.user_id"
        " WHERE t.token_id = ? AND t.revoked_at IS NULL AND t.expires_at > ? AND t.scope IS NULL AND u.active = 1",
        (read_unverified_claim(token, "jti"), now),
    ).fetchone()
    return Viewer(*row) if row else None


def all_users(database: sqlite3.Connection, start: str) -> list[tuple[str, str]]:
    """All usernames that begin so, with roles."""
    rows = database.execute(
        "SELECT username, role FROM identity_users WHERE substr(username, 1, length(?)) = ? ORDER BY username LIMIT ?",
        (start, start, MAX_PEOPLE),
    )
    return list(rows)

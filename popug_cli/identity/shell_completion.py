"""Identity's data for shell completion, read over a plain read-only connection."""

import sqlite3
from typing import NamedTuple

from popug_cli.kernel.jwt_payload import read_unverified_claim

MAX_PEOPLE = 200


class Viewer(NamedTuple):
    """The user whose permissions limit the data."""

    user_id: str
    role: str


def viewer_of(database: sqlite3.Connection, token: str, now: str) -> Viewer | None:
    """Return the owner of a token that has no scope and is valid at `now` (a timestamp), or None.

    The signature is not verified.
    """
    row = database.execute(
        "SELECT u.user_id, u.role FROM identity_tokens t JOIN identity_users u ON u.user_id = t.user_id"
        " WHERE t.token_id = ? AND t.revoked_at IS NULL AND t.expires_at > ? AND t.scope IS NULL AND u.active = 1",
        (read_unverified_claim(token, "jti"), now),
    ).fetchone()
    return Viewer(*row) if row else None


def all_users(database: sqlite3.Connection, start: str) -> list[tuple[str, str]]:
    """Return the usernames that begin with `start`, each with its role; at most ``MAX_PEOPLE``."""
    rows = database.execute(
        "SELECT username, role FROM identity_users WHERE substr(username, 1, length(?)) = ? ORDER BY username LIMIT ?",
        (start, start, MAX_PEOPLE),
    )
    return list(rows)

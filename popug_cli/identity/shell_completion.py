"""Identity's data for shell completion, read over the caller's connection."""

from typing import NamedTuple

from popug_cli.kernel.jwt_payload import read_unverified_claim
from popug_cli.storage.read_only import ReadOnlyDatabase

MAX_USERS = 200


class Viewer(NamedTuple):
    """The user whose permissions limit the data."""

    user_id: str
    role: str


def find_viewer(database: ReadOnlyDatabase, token: str, now: str) -> Viewer | None:
    """Return the owner of a stored token, or None.

    None if the token is revoked, has a scope or has expired at `now` (a timestamp), or if its owner is not active.
    The signature is not verified.
    """
    row = database.execute(
        "SELECT user_id, role FROM identity_tokens JOIN identity_users USING (user_id)"
        " WHERE token_id = ? AND revoked_at IS NULL AND expires_at > ? AND scope IS NULL AND active = 1",
        (read_unverified_claim(token, "jti"), now),
    ).fetchone()
    return Viewer(*row) if row else None


def users_with_prefix(database: ReadOnlyDatabase, prefix: str) -> list[tuple[str, str]]:
    """Return the first ``MAX_USERS`` usernames that begin with `prefix`, each with its role, in alphabetical order."""
    rows = database.execute(
        "SELECT username, role FROM identity_users WHERE substr(username, 1, length(?)) = ? ORDER BY username LIMIT ?",
        (prefix, prefix, MAX_USERS),
    )
    return list(rows)

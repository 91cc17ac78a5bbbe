"""Login throttling per username: the sixth failed login locks the name for 1 s, and each further one doubles that.

Failures with names that no user has are counted too, so that the answer does not reveal whether a user exists.
"""

import math

from popug_cli.bus.context import Context
from popug_cli.identity.rules import forget_lockouts_before, is_locked, is_username, lockout_after
from popug_cli.kernel.clock import from_rfc3339, to_rfc3339
from popug_cli.kernel.errors import NotAuthenticated


def check_not_locked(context: Context, username: str) -> None:
    """Raise ``too_many_attempts`` during the lockout of a username."""
    if not is_username(username):
        return
    statement = "SELECT locked_until FROM identity_throttle WHERE username = :username"
    locked_until = context.connection.scalar(statement, username=username)
    if locked_until is None or not is_locked(from_rfc3339(locked_until), context.now):
        return
    wait_seconds = math.ceil((from_rfc3339(locked_until) - context.now).total_seconds())
    raise NotAuthenticated(
        "too_many_attempts",
        f"Too many failed logins; the next attempt is allowed in {wait_seconds} s.",
        hint="Wait, or let an admin set a new password with `popug user passwd NAME`.",
        details={"wait_seconds": wait_seconds},
    )


def record_failure(context: Context, username: str) -> None:
    """Count a failed login, set the lockout, and delete the rows of lockouts that ended long ago."""
    if not is_username(username):
        return
    connection = context.connection
    connection.execute(
        "DELETE FROM identity_throttle WHERE locked_until < :before", before=forget_lockouts_before(context.now)
    )
    failures = connection.scalar(
        "INSERT INTO identity_throttle (username, failures, locked_until) VALUES (:username, 1, :now)"
        " ON CONFLICT (username) DO UPDATE SET failures = identity_throttle.failures + 1 RETURNING failures",
        username=username,
        now=to_rfc3339(context.now),
    )
    connection.execute(
        "UPDATE identity_throttle SET locked_until = :until WHERE username = :username",
        username=username,
        until=to_rfc3339(context.now + lockout_after(failures)),
    )


def reset(context: Context, username: str) -> None:
    """Delete the failure count of a username."""
    context.connection.execute("DELETE FROM identity_throttle WHERE username = :username", username=username)

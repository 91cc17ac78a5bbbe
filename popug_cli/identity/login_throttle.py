"""Login throttling: the sixth failed login locks a username for 1 s, and each further one doubles that, up to a limit.

Failures with names that no user has are counted too, so that the answer does not reveal whether a user exists. A device
that has logged in before has a count of its own (``devices``), so that wrong guesses by others do not lock it out.
"""

import math
from datetime import timedelta
from typing import NamedTuple

from popug_cli.bus.context import Context
from popug_cli.identity import devices, published_keys
from popug_cli.identity.rules import forget_lockouts_before, is_locked, is_username, lockout_after, lower_username
from popug_cli.kernel.clock import from_rfc3339, to_rfc3339
from popug_cli.kernel.errors import NotAuthenticated
from popug_cli.messages.identity import LogIn, LoginLocked, User

DEVICE_SEPARATOR = "#"  # no username contains it
AFTER_DEVICE_SEPARATOR = chr(ord(DEVICE_SEPARATOR) + 1)


class LoginAttempt(NamedTuple):
    """A login as `username`; `device_id` is None unless the device has logged in as this user before."""

    username: str
    device_id: str | None = None

    @property
    def throttle_key(self) -> str:
        """The key under which the failures of such attempts are counted."""
        return self.username if self.device_id is None else f"{self.username}{DEVICE_SEPARATOR}{self.device_id}"


def attempt_of(message: LogIn, context: Context) -> LoginAttempt:
    """Return the attempt that a message makes, with the device that its token proves."""
    username = lower_username(message.username)
    return LoginAttempt(
        username,
        devices.known_device(
            message.device_token, username, published_keys.find_key_in(context), context.home_id, context.now
        ),
    )


def check_not_locked(context: Context, attempt: LoginAttempt) -> None:
    """Raise ``too_many_attempts`` during the lockout of a username, or of a known device."""
    if not is_username(attempt.username):
        return
    statement = "SELECT locked_until FROM identity_throttle WHERE username = :username"
    locked_until = context.connection.scalar(statement, username=attempt.throttle_key)
    if locked_until is None or not is_locked(from_rfc3339(locked_until), context.now):
        return
    wait_seconds = math.ceil((from_rfc3339(locked_until) - context.now).total_seconds())
    raise NotAuthenticated(
        "too_many_attempts",
        f"Too many failed logins; the next attempt is allowed in {wait_seconds} s.",
        hint="Wait, or let an admin set a new password with `popug user passwd NAME`.",
        details={"wait_seconds": wait_seconds},
    )


def record_failure(context: Context, attempt: LoginAttempt, user: User | None) -> timedelta:
    """Count a failed login, and set and return the lockout; for a `user` that exists publish ``login_locked``.

    Delete the rows of lockouts that ended long ago.
    """
    if not is_username(attempt.username):
        return timedelta(0)
    connection = context.connection
    connection.execute(
        "DELETE FROM identity_throttle WHERE locked_until < :before", before=forget_lockouts_before(context.now)
    )
    failures = connection.scalar(
        "INSERT INTO identity_throttle (username, failures, locked_until) VALUES (:username, 1, :now)"
        " ON CONFLICT (username) DO UPDATE SET failures = identity_throttle.failures + 1 RETURNING failures",
        username=attempt.throttle_key,
        now=to_rfc3339(context.now),
    )
    lockout = lockout_after(failures)
    locked_until = context.now + lockout
    connection.execute(
        "UPDATE identity_throttle SET locked_until = :until WHERE username = :username",
        username=attempt.throttle_key,
        until=to_rfc3339(locked_until),
    )
    if lockout and user is not None:
        known = attempt.device_id is not None
        context.events.publish(
            LoginLocked(user_id=user.user_id, failures=failures, locked_until=locked_until, known_device=known)
        )
    return lockout


def reset(context: Context, attempt: LoginAttempt) -> None:
    """Delete the failure count of a username, or of a known device."""
    context.connection.execute(
        "DELETE FROM identity_throttle WHERE username = :username", username=attempt.throttle_key
    )


def reset_all(context: Context, username: str) -> None:
    """Delete the failure counts of a username and of its known devices."""
    context.connection.execute(
        "DELETE FROM identity_throttle"
        " WHERE username = :username OR (username > :first_device AND username < :after_devices)",
        username=username,
        first_device=username + DEVICE_SEPARATOR,
        after_devices=username + AFTER_DEVICE_SEPARATOR,
    )

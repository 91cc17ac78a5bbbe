"""Log failed logins: one record each, but not more in a minute than a person can read."""

from collections import Counter
from time import monotonic

from popug_cli.kernel.log import LOG

MAX_RECORDS = 20
WINDOW_SECONDS = 60.0


class FailedLoginLog:
    """Logs failed logins, at most ``MAX_RECORDS`` of one client in ``WINDOW_SECONDS``; safe to call from any thread."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._window_ends_at = 0.0

    def record(self, username: str | None, client: str, wait_seconds: int) -> None:
        """Log a wrong password, and the lockout of `wait_seconds` that it causes, if that is not 0.

        `username` is None if no user has the name. Such a name is not logged: it may be a mistyped password.
        """
        name = username or "an unknown user"
        details = {"client": client, "username": username}
        count = self._count(client)
        if count <= MAX_RECORDS:
            LOG.warning("A login as %s from %s failed.", name, client, extra=details)
        elif count == MAX_RECORDS + 1:
            LOG.warning("More logins from %s failed; they are not logged for up to a minute.", client, extra=details)
        if wait_seconds and (username or count <= MAX_RECORDS):
            sentence = "Logins as %s are refused for %d s, after too many wrong passwords."
            LOG.warning(sentence, name, wait_seconds, extra=details | {"wait_seconds": wait_seconds})

    def _count(self, client: str) -> int:
        """Count a failure of the client; return how many it had in this window."""
        now = monotonic()
        if now >= self._window_ends_at:
            self._counts.clear()
            self._window_ends_at = now + WINDOW_SECONDS
        self._counts[client] += 1
        return self._counts[client]

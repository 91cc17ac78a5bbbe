"""Decide whether and when a failed event is retried: a pure function."""

from dataclasses import dataclass
from datetime import timedelta

import msgspec


class PermanentFailure(Exception):
    """A failure that must not be retried."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits on retries; waits are in seconds."""

    max_attempts: int
    first_wait_seconds: int
    max_wait_seconds: int


def next_try(attempts: int, error: Exception, policy: Policy, jitter: float) -> timedelta | None:
    """Return the wait before the next attempt, or None if the event becomes a dead letter.

    The wait doubles after each failure, up to the longest. It is then reduced by up to half (``jitter`` in [0, 1)), so
    that events that failed together are not retried together. This is capped exponential back-off with "equal jitter"
    (M. Brooker, "Exponential Backoff And Jitter", 2015). An event that does not fit its schema is never retried, nor is
    a ``PermanentFailure``.
    """
    assert attempts >= 1
    assert 0 <= jitter < 1
    if isinstance(error, msgspec.MsgspecError | PermanentFailure) or attempts >= policy.max_attempts:
        return None
    wait = min(policy.max_wait_seconds, policy.first_wait_seconds * 2 ** min(attempts - 1, 32))
    return timedelta(seconds=wait * (1 - jitter / 2))

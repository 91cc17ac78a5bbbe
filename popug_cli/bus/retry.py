"""Decide whether and when a failed event is retried: a pure function."""

from dataclasses import dataclass
from datetime import timedelta

import msgspec

from popug_cli.kernel.backoff import compute_backoff
from popug_cli.kernel.settings import Settings


class PermanentFailure(Exception):
    """A failure that must not be retried."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits on retries; waits are in seconds."""

    max_attempts: int
    first_wait_seconds: int
    max_wait_seconds: int


def policy_from(settings: Settings) -> Policy:
    """Return the policy that the settings of a home ask for."""
    return Policy(
        max_attempts=settings.number("bus.max_attempts"),
        first_wait_seconds=settings.number("bus.retry_seconds"),
        max_wait_seconds=settings.number("bus.retry_cap_seconds"),
    )


def next_try(attempts: int, error: Exception, policy: Policy, jitter: float) -> timedelta | None:
    """Return the wait before the next attempt, or None if the event becomes a dead letter.

    The wait doubles after each failure, up to the longest. It is then reduced by up to half (``jitter`` in [0, 1)), so
    that events that failed together are not retried together. This is capped exponential back-off with "equal jitter"
    (M. Brooker, "Exponential Backoff And Jitter", 2015). An event that does not fit its schema is never retried, nor is
    a ``PermanentFailure``.
    """
    if isinstance(error, msgspec.MsgspecError | PermanentFailure) or attempts >= policy.max_attempts:
        return None
    first, longest = policy.first_wait_seconds, policy.max_wait_seconds
    return compute_backoff(attempts, first_seconds=first, max_seconds=longest, jitter=jitter)

"""Whether and when a failed event is retried, by consumers and by hooks: a pure function of the settings."""

from dataclasses import dataclass
from datetime import timedelta

import msgspec

from popug_cli.kernel.backoff import compute_backoff
from popug_cli.kernel.settings import Settings


class PermanentFailure(Exception):
    """A failure that must not be retried."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The limits on attempts and on the waits between them."""

    max_attempts: int
    first_wait_seconds: int
    max_wait_seconds: int


def policy_from(settings: Settings) -> RetryPolicy:
    """Return the policy that the settings of a home ask for."""
    return RetryPolicy(
        max_attempts=settings.number("bus.max_attempts"),
        first_wait_seconds=settings.number("bus.retry_seconds"),
        max_wait_seconds=settings.number("bus.retry_cap_seconds"),
    )


def retry_wait(attempts: int, error: Exception, policy: RetryPolicy, jitter: float) -> timedelta | None:
    """Return the wait before the next attempt, or None if the event becomes a dead letter.

    It becomes one after ``max_attempts`` failures, and at once after a ``PermanentFailure`` or if it does not fit its
    schema. The wait doubles after each failure, up to ``max_wait_seconds``. It is then reduced by up to half
    (``jitter`` in [0, 1)), so that events that failed together are not retried together. This is capped exponential
    back-off with "equal jitter" (M. Brooker, "Exponential Backoff And Jitter", 2015).
    """
    if isinstance(error, msgspec.MsgspecError | PermanentFailure) or attempts >= policy.max_attempts:
        return None
    first, longest = policy.first_wait_seconds, policy.max_wait_seconds
    return compute_backoff(attempts, first_seconds=first, max_seconds=longest, jitter=jitter)

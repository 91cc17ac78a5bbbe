"""Whether and when a failed event is tried again: a pure decision."""

from dataclasses import dataclass
from datetime import timedelta

import msgspec

from popug_cli.kernel.backoff import compute_backoff
from popug_cli.kernel.settings import Settings


class PermanentFailure(Exception):
    """A failure that another try must not follow."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient a consumer is; the waits are in seconds."""

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
    """Return how long to wait after that many failures, or None if the event becomes a dead letter.

    ``jitter`` in [0, 1) shortens the wait. An event that does not match its schema is never retried, nor is one that
    the consumer gave up.
    """
    if isinstance(error, msgspec.MsgspecError | PermanentFailure) or attempts >= policy.max_attempts:
        return None
    first, longest = policy.first_wait_seconds, policy.max_wait_seconds
    return compute_backoff(attempts, first_seconds=first, max_seconds=longest, jitter=jitter)

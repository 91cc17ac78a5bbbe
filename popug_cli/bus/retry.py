"""Whether and when a failed event is tried again: a pure decision."""

from dataclasses import dataclass
from datetime import timedelta

import msgspec


class PermanentFailure(Exception):
    """A failure that another try must not follow."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient a consumer is; the waits are in seconds."""

    max_attempts: int
    first_wait_seconds: int
    max_wait_seconds: int


def next_try(attempts: int, error: Exception, policy: Policy, jitter: float) -> timedelta | None:
    """How long to wait after that many failures; None where the event is a dead letter.

    The wait doubles from the first up to the longest and is then cut by up to a half (``jitter`` in [0, 1)), so that
    what failed together is not tried again together: capped exponential backoff with "equal jitter" (M. Brooker,
    "Exponential Backoff And Jitter", 2015). An event that does not fit its schema cannot
    heal, and what was given up is not begun again.
    """
    assert attempts >= 1
    assert 0 <= jitter < 1
    if isinstance(error, msgspec.MsgspecError | PermanentFailure) or attempts >= policy.max_attempts:
        return None
    wait = min(policy.max_wait_seconds, policy.first_wait_seconds * 2 ** min(attempts - 1, 32))
    return timedelta(seconds=wait * (1 - jitter / 2))

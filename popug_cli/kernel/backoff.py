"""Exponential back-off: how long to wait after some failures in a row, for events, hooks, mails and logins.

The wait doubles with each failure up to a maximum. Jitter shortens it by up to a half, so that tasks that failed
together are not all retried at the same instant ("equal jitter": M. Brooker, "Exponential Backoff And Jitter", 2015).
"""

from datetime import timedelta

MAX_DOUBLINGS = 32  # keeps the power of two small; any maximum in use is reached earlier


def compute_backoff(failures: int, *, first_seconds: int, max_seconds: int, jitter: float = 0.0) -> timedelta:
    """Return the wait after that many failures in a row, at least 1.

    ``jitter`` in [0, 1) shortens the wait by that share of its half; 0 leaves the wait as it is.
    """
    assert failures >= 1
    assert 0 <= jitter < 1
    seconds = min(max_seconds, first_seconds * 2 ** min(failures - 1, MAX_DOUBLINGS))
    return timedelta(seconds=seconds * (1 - jitter / 2))

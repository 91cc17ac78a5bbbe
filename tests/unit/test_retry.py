"""Whether and when a failed event is retried, and the back-off of everything that waits."""

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from popug_cli.bus.retry import RetryPolicy, policy_from, retry_wait
from popug_cli.kernel.backoff import MAX_DOUBLINGS, compute_backoff
from popug_cli.kernel.settings import load_settings

POLICY = RetryPolicy(max_attempts=5, first_wait_seconds=10, max_wait_seconds=60)
BROKEN = RuntimeError("broken")


def test_wait_doubles_up_to_the_cap() -> None:
    waits = [retry_wait(attempt, BROKEN, POLICY, jitter=0) for attempt in range(1, 5)]
    assert [wait.total_seconds() for wait in waits if wait is not None] == [10, 20, 40, 60]


@given(st.integers(1, 4), st.floats(0, 1, exclude_max=True))
def test_jitter_takes_at_most_half_of_the_wait(attempts: int, jitter: float) -> None:
    full = retry_wait(attempts, BROKEN, POLICY, jitter=0)
    cut = retry_wait(attempts, BROKEN, POLICY, jitter=jitter)
    assert full is not None
    assert cut is not None
    assert full / 2 <= cut <= full
    assert retry_wait(1, BROKEN, POLICY, jitter=0.5) == timedelta(seconds=7.5)


def test_event_is_a_dead_letter_after_the_last_attempt() -> None:
    assert retry_wait(5, BROKEN, POLICY, jitter=0) is None
    assert retry_wait(500, BROKEN, POLICY, jitter=0) is None


def test_schema_violation_is_never_retried() -> None:
    assert retry_wait(1, msgspec.ValidationError("wrong"), POLICY, jitter=0) is None
    assert retry_wait(1, msgspec.DecodeError("wrong"), POLICY, jitter=0) is None


def test_many_attempts_do_not_overflow() -> None:
    patient = RetryPolicy(max_attempts=10_000, first_wait_seconds=1, max_wait_seconds=3600)
    wait = retry_wait(9_999, BROKEN, patient, jitter=0)
    assert wait is not None
    assert wait.total_seconds() == 3600


def test_policy_follows_settings() -> None:
    environment = {
        "POPUG_BUS_MAX_ATTEMPTS": "7",
        "POPUG_BUS_RETRY_SECONDS": "11",
        "POPUG_BUS_RETRY_CAP_SECONDS": "13",
    }
    settings = load_settings(Path("/nowhere/config.toml"), environment)
    assert policy_from(settings) == RetryPolicy(max_attempts=7, first_wait_seconds=11, max_wait_seconds=13)


def test_backoff_doubles_up_to_maximum() -> None:
    waits = [compute_backoff(failures, first_seconds=3, max_seconds=20) for failures in range(1, 6)]
    assert [wait.total_seconds() for wait in waits] == [3, 6, 12, 20, 20]


def test_backoff_jitter_takes_up_to_a_half() -> None:
    assert compute_backoff(1, first_seconds=8, max_seconds=8, jitter=0.5) == timedelta(seconds=6)
    almost = compute_backoff(1, first_seconds=8, max_seconds=8, jitter=0.999999)
    assert timedelta(seconds=4) < almost < timedelta(seconds=4.001)


def test_backoff_bounds_power_of_two() -> None:
    unbounded = 2 ** (MAX_DOUBLINGS + 8)
    assert compute_backoff(10_000, first_seconds=1, max_seconds=unbounded) == timedelta(seconds=2**MAX_DOUBLINGS)


@pytest.mark.parametrize(("failures", "jitter"), [(0, 0.0), (1, 1.0), (1, -0.1)])
def test_backoff_refuses_impossible_arguments(failures: int, jitter: float) -> None:
    with pytest.raises(AssertionError):
        compute_backoff(failures, first_seconds=1, max_seconds=2, jitter=jitter)

"""How long to wait after some failures in a row."""

from datetime import timedelta

import pytest

from popug_cli.kernel.backoff import MAX_DOUBLINGS, compute_backoff


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

"""Fairness of the draws: how uneven they are, and how often fair draws are at least as uneven; pure functions.

Draws among the same candidates form a *pool*. Each draw adds 1 / (number of candidates) to the expected number of tasks
of each of its candidates. The statistic is Pearson's: the sum over people of (got - expected)^2 / expected.

If all n people are candidates in every draw, the statistic follows the chi-squared distribution with n - 1 degrees of
freedom (Pearson 1900). The p-value is then exactly that of the chi-squared test. People come and go, so in general the
statistic follows a weighted sum of chi-squared variables. A scaled chi-squared variable with the same mean and variance
approximates that sum (Satterthwaite 1946, Box 1954). Both hold if people can expect about five draws or more; with
fewer, the p-value is rough.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import exp, lgamma, log
from typing import NamedTuple

MAX_OVERLAP_OPERATIONS = 20_000_000
EPSILON = 1e-12
MAX_ITERATIONS = 100_000
TINY = 1e-300  # in place of a zero denominator, as in the modified Lentz algorithm


class CandidatePool(NamedTuple):
    """The candidates of some draws, and the number of those draws."""

    candidates: Sequence[str]
    draws_count: int


class FairnessResult(NamedTuple):
    """The expected number of tasks by user id, and the probability that fair draws are at least as uneven."""

    expected: dict[str, float]
    p_value: float


def chi_squared_test(pools: Mapping[int, CandidatePool], assigned: Mapping[str, int]) -> FairnessResult:
    """Compare the assigned numbers of tasks, by user id, with those that fair draws give.

    A pool's key has no meaning here. The p-value is 1 if no draw had a choice.
    """
    used_pools = [pool for pool in pools.values() if pool.draws_count and pool.candidates]
    expected: defaultdict[str, float] = defaultdict(float)
    for pool in used_pools:
        for person in pool.candidates:
            expected[person] += pool.draws_count / len(pool.candidates)
    statistic = sum((assigned.get(person, 0) - mean) ** 2 / mean for person, mean in expected.items())
    mean, variance = _moments(used_pools, expected)
    if mean < EPSILON or variance < EPSILON:
        return FairnessResult(dict(expected), 1.0)
    scale, degrees_of_freedom = variance / (2 * mean), 2 * mean**2 / variance
    return FairnessResult(dict(expected), chi_squared_tail(statistic / scale, degrees_of_freedom))


def _moments(pools: Sequence[CandidatePool], expected: Mapping[str, float]) -> tuple[float, float]:
    """Return the mean and the variance of the statistic: the trace of I - B, and twice the trace of (I - B)^2.

    B is the sum over pools of draws * v v', where v holds 1 / (candidates * sqrt(expected)) for each candidate.
    """
    trace = sum(
        pool.draws_count / len(pool.candidates) ** 2 / expected[person] for pool in pools for person in pool.candidates
    )
    people = len(expected)
    return people - trace, 2 * (people - 2 * trace + _trace_of_square(pools, expected, trace))


def _trace_of_square(pools: Sequence[CandidatePool], expected: Mapping[str, float], trace: float) -> float:
    """Return the trace of B^2.

    For very many pools, return its upper bound: the trace of B, which is small compared with the number of people.
    """
    if len(pools) ** 2 * len(expected) > MAX_OVERLAP_OPERATIONS:
        return trace
    members = [frozenset(pool.candidates) for pool in pools]
    total = 0.0
    for left, left_members in zip(pools, members, strict=True):
        for right, right_members in zip(pools, members, strict=True):
            overlap = sum(1 / expected[person] for person in left_members & right_members)
            overlap /= len(left_members) * len(right_members)
            total += left.draws_count * right.draws_count * overlap**2
    return total


def chi_squared_tail(statistic: float, degrees_of_freedom: float) -> float:
    """Return the probability that a chi-squared variable is at least ``statistic``."""
    shape, x = degrees_of_freedom / 2, statistic / 2
    if x <= 0:
        return 1.0
    leading = exp(shape * log(x) - x - lgamma(shape))
    probability = 1 - _series(shape, x) * leading if x < shape + 1 else _fraction(shape, x) * leading
    return min(1.0, max(0.0, probability))


def _series(shape: float, x: float) -> float:
    """Return the lower incomplete gamma function divided by x^shape * e^-x, from its power series."""
    term = total = 1 / shape
    for iteration in range(1, MAX_ITERATIONS):
        term *= x / (shape + iteration)
        total += term
        if term < total * EPSILON:
            break
    return total


def _fraction(shape: float, x: float) -> float:
    """Return the upper incomplete gamma function divided by x^shape * e^-x, from its continued fraction (Lentz)."""
    b = x + 1 - shape
    c, d = 1 / TINY, 1 / b
    fraction = d
    for iteration in range(1, MAX_ITERATIONS):
        factor = -iteration * (iteration - shape)
        b += 2
        d = 1 / (factor * d + b or TINY)
        c = b + factor / c or TINY
        fraction *= d * c
        if abs(d * c - 1) < EPSILON:
            break
    return fraction

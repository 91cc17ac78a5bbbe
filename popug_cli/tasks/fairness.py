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

MAX_OVERLAP_WORK = 20_000_000
EPSILON = 1e-12
STEPS = 100_000
TINY = 1e-300


class CandidatePool(NamedTuple):
    """The candidates of some draws, and the number of those draws."""

    candidates: Sequence[str]
    draws_count: int


class FairnessResult(NamedTuple):
    """The expected number of tasks by person, and the probability that fair draws are at least as uneven."""

    expected: dict[str, float]
    p_value: float


def chi_squared_test(pools: Mapping[int, CandidatePool], assigned: Mapping[str, int]) -> FairnessResult:
    """Compare the assigned numbers with those that fair draws give; the p-value is 1 if no draw had a choice."""
    drawn = [pool for pool in pools.values() if pool.draws_count and pool.candidates]
    expected: defaultdict[str, float] = defaultdict(float)
    for pool in drawn:
        for person in pool.candidates:
            expected[person] += pool.draws_count / len(pool.candidates)
    statistic = sum((assigned.get(person, 0) - mean) ** 2 / mean for person, mean in expected.items())
    mean, variance = _moments(drawn, expected)
    if mean < EPSILON or variance < EPSILON:
        return FairnessResult(dict(expected), 1.0)
    scale, freedom = variance / (2 * mean), 2 * mean**2 / variance
    return FairnessResult(dict(expected), chi_squared_tail(statistic / scale, freedom))


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
    if len(pools) ** 2 * len(expected) > MAX_OVERLAP_WORK:
        return trace
    members = [frozenset(pool.candidates) for pool in pools]
    total = 0.0
    for left, left_members in zip(pools, members, strict=True):
        for right, right_members in zip(pools, members, strict=True):
            overlap = sum(1 / expected[person] for person in left_members & right_members)
            overlap /= len(left_members) * len(right_members)
            total += left.draws_count * right.draws_count * overlap**2
    return total


def chi_squared_tail(statistic: float, freedom: float) -> float:
    """Return the probability that a chi-squared variable with ``freedom`` degrees is at least ``statistic``."""
    shape, x = freedom / 2, statistic / 2
    if x <= 0:
        return 1.0
    leading = exp(shape * log(x) - x - lgamma(shape))
    below = 1 - _series(shape, x) * leading if x < shape + 1 else _fraction(shape, x) * leading
    return min(1.0, max(0.0, below))


def _series(shape: float, x: float) -> float:
    """Return the lower incomplete gamma function divided by its leading term, from its power series."""
    term = total = 1 / shape
    for step in range(1, STEPS):
        term *= x / (shape + step)
        total += term
        if term < total * EPSILON:
            break
    return total


def _fraction(shape: float, x: float) -> float:
    """Return the upper incomplete gamma function divided by its leading term, from its continued fraction (Lentz)."""
    b = x + 1 - shape
    c, d = 1 / TINY, 1 / b
    fraction = d
    for step in range(1, STEPS):
        factor = -step * (step - shape)
        b += 2
        d = 1 / (factor * d + b or TINY)
        c = b + factor / c or TINY
        fraction *= d * c
        if abs(d * c - 1) < EPSILON:
            break
    return fraction

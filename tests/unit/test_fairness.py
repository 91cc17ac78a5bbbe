"""The fairness of draws: known tails of the chi-squared distribution, and simulations."""

import random
from collections import Counter

import pytest

from popug_cli.tasks.fairness import CandidatePool, chi_squared_tail, chi_squared_test


@pytest.mark.parametrize(
    ("statistic", "freedom", "tail"),
    [
        (3.841459, 1, 0.05),
        (5.991465, 2, 0.05),
        (18.307038, 10, 0.05),
        (124.342113, 100, 0.05),
        (0.0039321, 1, 0.95),
        (1074.679, 1000, 0.05),
        (0.0, 3, 1.0),
        (1e6, 3, 0.0),
    ],
)
def test_tail_of_the_chi_squared_distribution(statistic: float, freedom: float, tail: float) -> None:
    assert chi_squared_tail(statistic, freedom) == pytest.approx(tail, abs=2e-5)


def test_among_the_same_people_it_is_the_chi_squared_test() -> None:
    luck = chi_squared_test({0: CandidatePool("abc", 60)}, {"a": 30, "b": 20, "c": 10})
    assert luck.expected == {"a": 20, "b": 20, "c": 20}
    assert luck.p_value == pytest.approx(chi_squared_tail(10, 2))
    assert luck.p_value == pytest.approx(0.0067379, abs=1e-6)


def test_pools_of_the_same_people_are_one_pool() -> None:
    got = {"a": 31, "b": 19, "c": 10}
    whole, parts = (
        chi_squared_test({0: CandidatePool("abc", 60)}, got),
        chi_squared_test({n: CandidatePool("abc", 20) for n in range(3)}, got),
    )
    assert parts.p_value == pytest.approx(whole.p_value)
    assert parts.expected == pytest.approx(whole.expected)


@pytest.mark.parametrize(
    "pools", [{}, {0: CandidatePool("a", 10)}, {0: CandidatePool("abc", 0)}, {0: CandidatePool("", 0)}]
)
def test_single_candidate_has_p_value_of_one(pools: dict[int, CandidatePool]) -> None:
    assert chi_squared_test(pools, {"a": 10}).p_value == 1.0


def test_expected_counts_only_draws_as_a_candidate() -> None:
    luck = chi_squared_test({0: CandidatePool("ab", 10), 1: CandidatePool("abcd", 20)}, {})
    assert luck.expected == {"a": 10, "b": 10, "c": 5, "d": 5}


def test_p_value_is_about_uniform_when_candidates_change() -> None:
    chance = random.Random(7)
    pools = {0: CandidatePool("ab", 100), 1: CandidatePool("abcd", 100), 2: CandidatePool("cdef", 60)}
    below = 0
    for _ in range(1000):
        got = Counter(chance.choice(pool.candidates) for pool in pools.values() for _ in range(pool.draws_count))
        below += chi_squared_test(pools, got).p_value < 0.1
    assert 70 <= below <= 130


def test_great_many_pools_are_judged_by_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    pools = {n: CandidatePool([str(person) for person in range(n + 2)], 40) for n in range(40)}
    got = {person: round(cents) for person, cents in chi_squared_test(pools, {}).expected.items()}
    exact = chi_squared_test(pools, got).p_value
    monkeypatch.setattr("popug_cli.tasks.fairness.MAX_OVERLAP_OPERATIONS", 0)
    assert chi_squared_test(pools, got).p_value == pytest.approx(exact, abs=0.02)

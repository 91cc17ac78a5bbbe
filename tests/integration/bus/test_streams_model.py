"""The decision against a model of logs, relays, a topic, losses and restores."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.bus.linked_logs import (
    PLAIN,
    WITH_ALL,
    WITH_LOSSES,
    WITH_RESTORES,
    LinkedLogs,
    Operation,
    random_operations,
)
from tests.integration.bus.planted_bugs import failures

RUNS = 300


def operations(names: Sequence[str]) -> st.SearchStrategy[list[Operation]]:
    digits = st.integers(0, 9)
    return st.lists(st.tuples(st.sampled_from(names), digits, digits), max_size=80)


@settings(deadline=None)
@given(operations(PLAIN))
def test_receiver_holds_a_prefix_and_ends_equal(todo: list[Operation]) -> None:
    LinkedLogs().run(todo)


@settings(deadline=None)
@given(operations(WITH_RESTORES))
def test_restore_never_mixes_two_lives(todo: list[Operation]) -> None:
    LinkedLogs().run(todo)


@settings(deadline=None)
@given(operations(WITH_ALL))
def test_lost_tail_never_mixes_two_histories(todo: list[Operation]) -> None:
    LinkedLogs().run(todo)


@pytest.mark.parametrize("names", [PLAIN, WITH_RESTORES, WITH_LOSSES, WITH_ALL])
def test_long_runs_hold_as_well(names: list[str]) -> None:
    assert list(failures(lambda random: LinkedLogs().run(random_operations(names, random)), RUNS)) == []

"""The decision against a model of logs, relays, topic and restores; each bug planted in it is found by that model."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from types import ModuleType
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popug_cli.bus import relay, streams
from tests.support.linked_logs import (
    LOSSES,
    RESTORES,
    WEIGHTS,
    LinkedLogs,
    Operation,
    names_of,
    random_operations,
)

RUNS = 300
MAX_RUNS_PER_BUG = 3_000
PLAIN = names_of(WEIGHTS)
WITH_RESTORES = names_of(WEIGHTS, RESTORES)
WITH_LOSSES = names_of(WEIGHTS, LOSSES)
WITH_ALL = names_of(WEIGHTS, LOSSES, RESTORES)


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
    assert list(failures(LinkedLogs, names, RUNS)) == []


class Bug(NamedTuple):
    """A text of a module, its replacement, the operations in which the model must find it, and what then fails."""

    module: ModuleType
    old: str
    new: str
    names: list[str]
    found: str


GAP = "return _replace(state, Verdict.GAP, gap_since=state.gap_since or now)"
ACCEPT_EVENT = (
    "return _replace(state, Verdict.ACCEPTED, last=record.position, last_id=record.id, gap_since=None)"
    " if isinstance(record, EventRecord) else "
)
WATERMARK_LAST = "return [*records, make_watermark_record(watermark)]"
BUGS = {
    "no check of previous": Bug(
        streams, GAP, ACCEPT_EVENT + GAP.removeprefix("return "), PLAIN, "two histories are mixed"
    ),
    "no check of previous_id": Bug(
        streams, "if record.previous_id != state.last_id:", "if False:", WITH_LOSSES, "two histories are mixed"
    ),
    "watermark before events": Bug(
        relay,
        WATERMARK_LAST,
        "return [make_watermark_record(replace(watermark, previous=claim.previous, previous_id=claim.previous_id)),"
        " *records]\nfrom msgspec.structs import replace",
        PLAIN,
        "the watermark is too far",
    ),
    "watermark sent first": Bug(
        relay,
        WATERMARK_LAST,
        "return [make_watermark_record(watermark), *records]",
        PLAIN,
        "the watermark is not raised",
    ),
    "includes with a watermark below the head": Bug(
        relay,
        "includes=claim.includes if claim.end == claim.head else None",
        "includes=claim.includes",
        PLAIN,
        "an included effect is missing",
    ),
    "log id ignored": Bug(
        streams,
        "if record.log_id != state.log_id:",
        "if False:",
        WITH_RESTORES,
        "not a prefix of the publisher's log",
    ),
    "event around the last one is a gap": Bug(
        streams,
        'return _history_changed(state, ChangeReason.LAST_MISSING, "", now)',
        GAP,
        WITH_LOSSES,
        "incomplete, and not noticed",
    ),
    "late watermark changes history": Bug(
        streams,
        "if isinstance(record, WatermarkRecord) and record.position < state.last:",
        "if False:",
        PLAIN,
        "false alarm",
    ),
    "duplicate of an event without subscription": Bug(
        streams,
        "if held_id is None or held_id == record.id:",
        "if held_id == record.id:",
        PLAIN,
        "false alarm",
    ),
    "watermark is lowered": Bug(
        streams,
        "watermark=max(state.watermark, record.position)",
        "watermark=record.position",
        PLAIN,
        "the watermark was lowered",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BUGS)
def test_planted_bug_is_found(name: str) -> None:
    bug = BUGS[name]
    assert bug.found in failures(lambda: logs_with(bug), bug.names, MAX_RUNS_PER_BUG)


def failures(make: Callable[[], LinkedLogs], names: Sequence[str], runs: int) -> Iterator[str]:
    """Yield the first sentence that does not hold, for each run in which one does not."""
    for seed in range(runs):
        try:
            make().run(random_operations(names, Random(seed)))
        except AssertionError as error:
            yield str(error).partition("\n")[0]


def logs_with(bug: Bug) -> LinkedLogs:
    source = Path(str(bug.module.__file__)).read_text()
    assert source.count(bug.old) == 1
    module = ModuleType(bug.module.__name__)
    exec(compile(source.replace(bug.old, bug.new), "planted", "exec"), module.__dict__)
    if bug.module is streams:
        return LinkedLogs(decide=module.__dict__["decide"])
    return LinkedLogs(records_of=module.__dict__["records_of"])

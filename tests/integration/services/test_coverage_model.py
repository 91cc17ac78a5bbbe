"""A covered answer shows all that its caller has seen; each planted bug makes the model find one that does not."""

from pathlib import Path
from random import Random
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popug_cli.bus import relay, streams
from popug_cli.bus.service import coverage
from tests.integration.bus.planted_bugs import failures, planted
from tests.integration.services.covered_logs import OPERATIONS, CoveredLogs, Operation, random_operations

MAX_RUNS_PER_BUG = 3_000
DIGITS = st.integers(0, 9)


class Bug(NamedTuple):
    """A text of a module, its replacement, and the failure that the model must find."""

    module: ModuleType
    old: str
    new: str
    found: str


def without_row(service: str, row: str, found: str) -> Bug:
    """Return the bug that a row of the table is missing."""
    line = next(
        line for line in Path(str(coverage.__file__)).read_text().splitlines() if line.startswith(f'    "{service}":')
    )
    assert row in line
    return Bug(coverage, line, line.replace(row, ""), found)


def without_includes(service: str, row: str, found: str) -> Bug:
    """Return the bug that a row of the table does not ask for the includes."""
    bug = without_row(service, row, found)
    return bug._replace(new=bug.old.replace(row, f"{row.partition(':')[0]}: None"))


BUGS = {
    "tasks without identity": without_row("tasks", '"identity": None,', "tasks lacks an event of identity"),
    "tasks without billing": without_row("tasks", '"billing": None', "tasks lacks an event of billing"),
    "billing without tasks": without_row("billing", '"tasks": None,', "billing lacks an event of tasks"),
    "billing without identity": without_row("billing", '"identity": "tasks"', "billing lacks an event of identity"),
    "analytics without billing": without_row("analytics", '"billing": None,', "analytics lacks an event of billing"),
    "analytics without tasks": without_row("analytics", '"tasks": "billing",', "analytics lacks an event of tasks"),
    "analytics without identity": without_row(
        "analytics", '"identity": "billing"', "analytics lacks an event of identity"
    ),
    "mail without billing": without_row("mail", '"billing": None,', "mail lacks an event of billing"),
    "mail without identity": without_row("mail", '"identity": "billing"', "mail lacks an event of identity"),
    "billing without the includes of tasks": without_includes(
        "billing", '"identity": "tasks"', "billing lacks effects at tasks of an event of identity"
    ),
    "analytics without the includes of billing about tasks": without_includes(
        "analytics", '"tasks": "billing"', "analytics lacks effects at billing of an event of tasks"
    ),
    "analytics without the includes of billing about identity": without_includes(
        "analytics", '"identity": "billing"', "analytics lacks effects at tasks of an event of identity"
    ),
    "includes with a watermark below the head": Bug(
        relay,
        "includes=claim.includes if claim.end == claim.head else None",
        "includes=claim.includes",
        "billing lacks an event of tasks",
    ),
    "includes of a watermark that is not consumed": Bug(
        coverage,
        "includes = state.includes if consumed >= state.includes_watermark else {}",
        "includes = state.includes",
        "billing lacks an event of tasks",
    ),
    "received is consumed": Bug(
        coverage, "consumed = min([end, ", "consumed, _ = end, ([end, ", "billing lacks an event of tasks"
    ),
    "the pending event counts as consumed": Bug(
        coverage, "position - 1 for", "position for", "billing lacks an event of tasks"
    ),
    "the event at the watermark is missing": Bug(
        coverage, "number > covered[origin]", "number > covered[origin] + 1", "billing lacks an event of tasks"
    ),
    "no watermark has includes": Bug(
        relay,
        "includes=claim.includes if claim.end == claim.head else None",
        "includes=None",
        "something is behind for ever",
    ),
}  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(OPERATIONS), DIGITS, DIGITS), max_size=60))
def test_covered_answer_shows_all_that_was_seen(operations: list[Operation]) -> None:
    CoveredLogs().run(operations)


def test_random_runs_have_many_covered_answers() -> None:
    made: list[CoveredLogs] = []

    def run(random: Random) -> None:
        made.append(CoveredLogs())
        made[-1].run(random_operations(random))

    assert list(failures(run, 200)) == []
    assert sum(logs.covered_answers for logs in made) > 200 * 20


@pytest.mark.parametrize("name", BUGS)
def test_planted_bug_is_found(name: str) -> None:
    bug = BUGS[name]
    program = program_with(bug)
    found = failures(lambda random: CoveredLogs(program).run(random_operations(random)), MAX_RUNS_PER_BUG)
    assert any(bug.found in failure for failure in found)


def program_with(bug: Bug) -> SimpleNamespace:
    module = planted(bug.module, bug.old, bug.new)
    program = SimpleNamespace(decide=streams.decide)
    for name, home in {
        "records_of": relay,
        "received_log": coverage,
        "covered_positions": coverage,
        "uncovered": coverage,
    }.items():
        setattr(program, name, getattr(module if home is bug.module else home, name))
    return program

"""Companies with every kind of fault, and the bugs that they find."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count

import pytest

from tests.simulation.__main__ import SIMULATION, main
from tests.simulation.bugs import BUGS
from tests.simulation.campaign import Order, campaign
from tests.simulation.command import hunt, replay_line
from tests.simulation.compare import COLUMNS
from tests.simulation.plan import COMMANDS, DISTURBANCES, Operation, Plan, only, plan, read_places, spell
from tests.simulation.run import run, workshop
from tests.simulation.shrink import shrink
from tests.support.postgres.harness import role_url
from tests.support.postgres.server import PostgresServer

OPERATIONS = 20_000
OPERATIONS_ON_POSTGRES = 500
JOBS = 2
FOUND_LATE = {"given-up-done-again"}  # takes thousands of operations: `python -m tests.simulation --bugs` runs it


def calm(name: str, length: int) -> Plan:
    """Return a plan that ends like its undisturbed twin."""
    return next(each for n in count() if not (each := plan(f"{name}:{n}", length)).wild)


def test_twenty_thousand_operations_break_no_invariant() -> None:
    tally = campaign(1, OPERATIONS, jobs=JOBS, watch=lambda tally: None)
    assert tally.failed is None, f"{tally.failed[1].detail}\nreplay: {replay_line(tally.failed[0], None)}"
    assert tally.operations == OPERATIONS
    assert 0 < tally.wild < tally.worlds


def test_worlds_on_postgres_break_no_invariant(postgres: PostgresServer) -> None:
    url = role_url(postgres)
    tally = campaign(1, OPERATIONS_ON_POSTGRES, jobs=1, watch=lambda tally: None, length=250, server_url=url)
    assert tally.failed is None, f"{tally.failed[1].detail}\nreplay: {replay_line(tally.failed[0], None)}"
    left = "SELECT datname FROM pg_database WHERE datname LIKE 'simulation%'"
    assert postgres.execute(left) == []


def test_each_planted_bug_is_found() -> None:
    soon_found = [name for name in BUGS if name not in FOUND_LATE]
    with ThreadPoolExecutor(JOBS) as pool:
        found = dict(zip(soon_found, pool.map(partial(hunt, SIMULATION, seed=1), soon_found), strict=True))
    assert {name for name, (invariant, _) in found.items() if invariant is None} == set()


def test_same_seed_is_the_same_world() -> None:
    happening = plan("again", 150)
    with workshop() as shop:
        one, other = (run(happening, shop, keep_state=True) for _ in range(2))
    assert (one.events, one.commands, one.state) == (other.events, other.commands, other.state)


def test_compared_end_state_has_rows_in_every_table() -> None:
    with workshop() as shop:
        state = run(calm("every table", 500), shop, keep_state=True).state
    assert {table for table in COLUMNS if not state[table]} == {"bus_set_aside", "mail_summaries"}


def test_operation_keeps_its_decisions_without_the_others() -> None:
    whole = plan("decisions", 100)
    part = only(whole, range(40, 60))
    assert part.operations == whole.operations[40:60]
    assert {each.kind for each in plan("kinds", 5_000).operations} >= {*COMMANDS, *DISTURBANCES}


def test_places_are_spelled_as_ranges_and_read_again() -> None:
    assert spell([1, 2, 3, 7, 9, 10]) == "1-3,7,9-10"
    assert read_places("1-3,7,9-10") == [1, 2, 3, 7, 9, 10]


def test_shrink_keeps_only_operations_needed_to_fail() -> None:
    assert shrink(range(200), lambda kept: {17, 120, 121} <= {*kept}, seconds=10) == [17, 120, 121]


def test_failure_is_reported_with_a_replay_command() -> None:
    line = replay_line(Order(5, 3, 400, keep=(1, 2, 9)), "no-inbox")
    assert line == "python -m tests.simulation --seed 5 --world 3 --length 400 --keep 1-2,9 --bug no-inbox"


def test_command_reports_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--operations", "60", "--jobs", "1", "--no-progress", "--seed", "4"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("seed 4: 60 operations (")
    assert output.rstrip().endswith("0 broken invariants")


def test_dropped_event_is_not_done_by_redelivery() -> None:
    """Found by the simulation: the cursor moved back behind a dropped dead letter, and its effect came after all."""
    kinds = ("outage", "catch_up", "add", "drop", "heal", "redeliver", "catch_up")
    numbers = {"outage": 0, "redeliver": 0, "drop": 0}
    steps = [Operation(n, kind, numbers.get(kind, 1), 29, 1) for n, kind in enumerate(kinds)]
    with workshop() as shop:
        verdict = run(Plan("given up", True, 0.0, tuple(steps)), shop)
    assert verdict.detail == ""

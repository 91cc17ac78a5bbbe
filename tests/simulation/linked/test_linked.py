"""Five linked homes with every kind of fault, and the bugs that they find."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.simulation.bugs import PROGRAM
from tests.simulation.campaign import Order, campaign
from tests.simulation.command import hunt, replay_line
from tests.simulation.linked.__main__ import SIMULATION, main
from tests.simulation.linked.bugs import LINKED_BUGS
from tests.simulation.linked.chaos import ORIGINS, STREAMS
from tests.simulation.linked.plan import plan
from tests.simulation.linked.run import run, workshop
from tests.simulation.linked.steps import STEPS
from tests.simulation.plan import Operation, Plan

JOBS = 2
# Found within some hundred operations; `python -m tests.simulation.linked --bugs` finds the others as well.
FOUND_SOON = (
    "watermark-first",
    "two-relays",
    "claim-numbers",
    "filter-by-type",
    "advance-to-head",
    "no-business-date",
    "close-without-waiting",
    "own-by-source",
)


def test_two_thousand_operations_end_like_one_process() -> None:
    tally = campaign(
        1,
        SIMULATION.operations,
        jobs=JOBS,
        watch=lambda tally: None,
        length=SIMULATION.length,
        package=SIMULATION.package,
    )
    assert tally.failed is None, f"{tally.failed[1].detail}\nreplay: {replay_line(tally.failed[0], None)}"
    assert tally.operations == SIMULATION.operations == 2_000
    assert 0 < tally.wild < tally.worlds


def test_republish_that_nobody_waits_for_is_no_failure() -> None:
    identity = ORIGINS.index("identity")
    streams = [number for number, (_, origin) in enumerate(STREAMS) if origin == "identity"]
    steps = [
        ("set_email", 0, 0),
        ("relay", identity, 5),
        *(("replicate", stream, 5) for stream in streams),
        ("republish", identity, 0),
    ]
    operations = tuple(Operation(place, kind, a, b, 1) for place, (kind, a, b) in enumerate(steps))
    with workshop() as shop:
        verdict = run(Plan("republish", wild=False, cut_short=0.0, operations=operations), shop)
    assert verdict.ok, verdict.detail


def test_two_retries_at_one_instant_make_different_events() -> None:
    operations = (
        Operation(162, "shuffle", 536554899, 657960185, 154059607),
        Operation(177, "clock_forward", 849671134, 336453129, 656546965),
        Operation(179, "add", 693370681, 321625650, 272757809),
        Operation(219, "poison", 838101533, 784848072, 781838984),
        Operation(235, "close", 893746604, 761708658, 479789167),
        Operation(426, "replicate", 1037789709, 68638168, 265413563),
        Operation(456, "heal", 906862008, 371895633, 229863214),
        Operation(471, "complete_own", 812089174, 777907180, 169091899),
        Operation(473, "poison", 834032347, 699799523, 17530526),
    )
    with workshop() as shop:
        verdict = run(Plan("1001:63", wild=False, cut_short=0.0, operations=operations), shop)
    assert verdict.ok, verdict.detail


def test_bugs_in_the_links_are_found() -> None:
    with ThreadPoolExecutor(JOBS) as pool:
        found = dict(zip(FOUND_SOON, pool.map(partial(hunt, SIMULATION, seed=1), FOUND_SOON), strict=True))
    assert {name for name, (rule, _) in found.items() if rule is None} == set()


@pytest.mark.parametrize("name", LINKED_BUGS)
def test_text_of_a_planted_bug_is_in_the_program(name: str) -> None:
    for change in LINKED_BUGS[name].changes:
        assert (PROGRAM / change.file).read_text(encoding="utf-8").count(change.old) == 1


def test_plans_have_every_kind_of_operation() -> None:
    kinds = {each.kind for number in range(20) for each in plan(f"kinds:{number}", 500).operations}
    assert kinds == set(STEPS)


def test_failure_is_reported_with_a_replay_command() -> None:
    order = Order(5, 3, 400, keep=(1, 2, 9), package=SIMULATION.package)
    line = "python -m tests.simulation.linked --seed 5 --world 3 --length 400 --keep 1-2,9 --bug no-previous"
    assert replay_line(order, "no-previous") == line


def test_command_reports_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--operations", "40", "--jobs", "1", "--no-progress", "--seed", "4"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("seed 4: 40 operations (")
    assert output.rstrip().endswith("everything holds")

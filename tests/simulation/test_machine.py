"""Companies driven by Hypothesis follow the rules, and one that does not is found."""

from argparse import Namespace

import pytest

from popug_cli.kernel.errors import NotAllowed
from popug_cli.tasks import errors
from tests.simulation.machine.__main__ import main, replay_line
from tests.simulation.machine.campaign import campaign

OPERATIONS = 500


def test_five_hundred_operations_follow_the_rules() -> None:
    """``python -m tests.simulation.machine --operations 1000000`` is the long run."""
    tally = campaign(1, OPERATIONS, watch=lambda tally: None)
    assert not tally.failed, tally.failed
    assert tally.operations >= OPERATIONS
    assert tally.companies > 5


def test_unexpected_refusal_is_found_with_its_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(errors, "not_assignee", lambda task, context: NotAllowed("forbidden", "It is not yours."))
    tally = campaign(2, 1_000, watch=lambda tally: None, shrink=False)
    assert "'forbidden', not 'not_your_task'" in tally.failed or "not 'task_reassigned'" in tally.failed
    assert "state.add(" in tally.failed or "state.import_some(" in tally.failed


def test_command_reports_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--operations", "30", "--no-progress", "--seed", "4"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("seed 4: ")
    assert told.rstrip().endswith("0 broken rules")


def test_failure_is_reported_with_a_replay_command() -> None:
    line = replay_line(Namespace(seed=5, operations=9_000, bug="no-inbox"), 3)
    assert line == "python -m tests.simulation.machine --seed 5 --chunk 3 --operations 9000 --bug no-inbox"

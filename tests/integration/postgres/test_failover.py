"""The primary is killed under load: nothing acknowledged is lost, nothing is done twice. One round of each kind.

``python -m tests.simulation.failover --rounds 20`` runs more of them.
"""

from pathlib import Path

import pytest

from tests.simulation.failover.rounds import KINDS, run
from tests.support.postgres.programs import require_postgres


@pytest.mark.parametrize("kind", KINDS)
def test_no_acknowledged_command_lost_or_repeated(kind: str, tmp_path: Path) -> None:
    require_postgres()
    outcome = run(kind, seed=1, folder=tmp_path)
    assert outcome.faults == []
    assert outcome.tasks >= 50

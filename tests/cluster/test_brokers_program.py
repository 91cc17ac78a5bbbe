"""``python -m tests.cluster brokers`` starts three brokers, and leaves nothing when it ends, even by SIGKILL."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.brokers import is_process_alive, registered
from tests.cluster.kafka_programs import require_kafka
from tests.cluster.shared_brokers import ROOT, RunningBrokers

require_kafka()

END_SECONDS = 60


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + END_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def leftovers(place: Path) -> list[str]:
    """Return the names in the folder for temporary files, without those of a library that stay when it is killed."""
    return [path.name for path in place.iterdir() if path.name.startswith("popug-kafka-")]


@pytest.mark.slow
def test_killed_program_leaves_no_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    line = [sys.executable, "-m", "tests.cluster", "brokers"]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            document = json.loads(program.stdout.readline())
            assert registered(document["brokers"]) == len(document["pids"]) == 3
            brokers = RunningBrokers(Path(document["folder"]))
            brokers.kill(1)
            assert registered(brokers.address_of(2)) in {2, 3}  # the others notice it after a moment
            brokers.start(1)
            assert brokers.pid(1) not in document["pids"]
            pids = [brokers.pid(number) for number in (1, 2, 3)]
        finally:
            program.send_signal(signal.SIGKILL)
    wait_for(lambda: not any(map(is_process_alive, pids)))
    wait_for(lambda: leftovers(tmp_path) == [])

"""The acceptance tests run in the places that exist, and refuse those that come later."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def collect(place: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "pytest", "-q", "-n0", "--collect-only", "tests/acceptance/test_ledger.py"]
    return subprocess.run([*line, f"--place={place}"], cwd=ROOT, capture_output=True, text=True, check=False)


def test_place_to_come_refused() -> None:
    done = collect("cluster")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    sentence = 'comes with the issue "Kafka, with several brokers"; use local or server or postgres.'
    assert f"--place=cluster {sentence}" in done.stderr


@pytest.mark.parametrize("place", ["local", "server", "postgres"])
def test_existing_place_accepted(place: str) -> None:
    assert collect(place).returncode == pytest.ExitCode.OK

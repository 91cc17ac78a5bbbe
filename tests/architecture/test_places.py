"""The acceptance tests run in the places that exist, and refuse those that come later."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def collect(place: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "pytest", "-q", "-n0", "--collect-only", "tests/acceptance/test_ledger.py"]
    return subprocess.run([*line, f"--place={place}"], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("place", "issue"), [("postgres", "PostgreSQL, with a replica"), ("cluster", "Kafka, with several brokers")]
)
def test_place_to_come_refused(place: str, issue: str) -> None:
    done = collect(place)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f'--place={place} comes with the issue "{issue}"; use local or server.' in done.stderr


@pytest.mark.parametrize("place", ["local", "server"])
def test_existing_place_accepted(place: str) -> None:
    assert collect(place).returncode == pytest.ExitCode.OK

"""The acceptance tests run in the places that exist, and refuse those that come later."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.sqlite_only import SQLITE_ONLY
from tests.support.postgres.programs import require_postgres

ROOT = Path(__file__).parents[2]


def collect(place: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "pytest", "-q", "-n0", "--collect-only", "tests/acceptance/test_ledger.py"]
    return subprocess.run([*line, f"--place={place}"], cwd=ROOT, capture_output=True, text=True, check=False)


def test_place_to_come_refused() -> None:
    done = collect("cluster")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    sentence = 'comes with the issue "Kafka, with several brokers"; use local or server or postgres.'
    assert f"--place=cluster {sentence}" in done.stderr


def test_listed_tests_of_the_sqlite_file_exist() -> None:
    for file, names in SQLITE_ONLY.items():
        tree = ast.parse((ROOT / "tests/acceptance" / file).read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert {name.partition("[")[0] for name in names} - defined == set(), file


def test_tests_of_the_sqlite_file_are_left_out_and_listed() -> None:
    require_postgres()
    done = collect("postgres")
    assert "test_ledger.py::test_company_is_backed_up_and_restored: backup and restore are for popug.db" in done.stdout
    assert "acceptance/test_ledger.py::test_company_is_backed_up_and_restored\n" not in done.stdout
    assert "acceptance/test_ledger.py::test_company_is_backed_up_and_restored\n" in collect("local").stdout


@pytest.mark.parametrize("place", ["local", "server", "postgres"])
def test_existing_place_accepted(place: str) -> None:
    assert collect(place).returncode == pytest.ExitCode.OK

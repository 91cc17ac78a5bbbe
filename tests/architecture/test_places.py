"""The acceptance tests run in several places; those that cannot run in one are listed and exist."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.not_on_a_cluster import NOT_ON_A_CLUSTER
from tests.acceptance.sqlite_only import SQLITE_ONLY
from tests.support.postgres.programs import require_postgres

ROOT = Path(__file__).parents[2]


def collect(place: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "pytest", "-q", "-n0", "--collect-only", "tests/acceptance/test_ledger.py"]
    return subprocess.run([*line, f"--place={place}"], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("listed", [SQLITE_ONLY, NOT_ON_A_CLUSTER], ids=["postgres", "cluster"])
def test_listed_tests_exist(listed: dict[str, dict[str, str]]) -> None:
    for file, names in listed.items():
        tree = ast.parse((ROOT / "tests/acceptance" / file).read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert {name.partition("[")[0] for name in names} - defined == set(), file


def test_tests_of_the_home_are_left_out_on_a_cluster() -> None:
    done = collect("cluster")
    assert done.returncode == pytest.ExitCode.OK
    assert "test_ledger.py::test_verify_finds_an_edited_entry_and_an_unknown_head: it is about" in done.stdout
    assert "acceptance/test_ledger.py::test_company_is_backed_up_and_restored\n" not in done.stdout
    assert "acceptance/test_ledger.py::test_entry_is_corrected_by_another\n" in done.stdout


def test_tests_of_the_sqlite_file_are_left_out_and_listed() -> None:
    require_postgres()
    done = collect("postgres")
    assert "test_ledger.py::test_company_is_backed_up_and_restored: backup and restore are for popug.db" in done.stdout
    assert "acceptance/test_ledger.py::test_company_is_backed_up_and_restored\n" not in done.stdout
    assert "acceptance/test_ledger.py::test_company_is_backed_up_and_restored\n" in collect("local").stdout


@pytest.mark.parametrize("place", ["local", "server", "postgres"])
def test_existing_place_accepted(place: str) -> None:
    assert collect(place).returncode == pytest.ExitCode.OK

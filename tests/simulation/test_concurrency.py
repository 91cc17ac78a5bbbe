"""A few concurrent processes on one home; ``python -m tests.simulation.concurrency`` runs fifty."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from popug_cli.messages.tasks import AddTask, ShuffleTasks
from tests.simulation.concurrency import bank
from tests.simulation.concurrency.bank import Readings
from tests.support.company import InProcess
from tests.support.postgres.programs import require_postgres

PROCESSES, COMMANDS = 8, 3


def test_eight_processes_have_no_fault_and_books_balance() -> None:
    asked = ("--processes", str(PROCESSES), "--commands", str(COMMANDS), "--no-progress")
    line = [sys.executable, "-m", "tests.simulation.concurrency", *asked]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("seed 1: ")
    assert done.stdout.rstrip().endswith(" snapshots of the bank, 0 faults")


def test_processes_on_postgres_have_no_fault() -> None:
    require_postgres()
    asked = ("--postgres", "--processes", "4", "--commands", "3", "--no-progress")
    line = [sys.executable, "-m", "tests.simulation.concurrency", *asked]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr


def test_server_survives_operator_at_work() -> None:
    asked = ("--server", "--processes", "4", "--commands", "12", "--no-progress")
    line = [sys.executable, "-m", "tests.simulation.concurrency", *asked]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith(" snapshots of the bank, 0 faults")


def test_unbalanced_books_are_found(tmp_path: Path) -> None:
    company = InProcess(tmp_path / "home")
    company.hire("kesha")
    company.act("boss", AddTask(title="Feed the cage"))
    company.act("boss", ShuffleTasks())
    home, readings = company.root, Readings()
    for _ in range(bank.LONG_LOOK_EVERY):
        bank.read(home, readings)
    assert (readings.snapshots, readings.faults) == (bank.LONG_LOOK_EVERY, [])
    with closing(sqlite3.connect(home / "popug.db", isolation_level=None)) as writer:
        writer.execute("UPDATE billing_accounts SET balance_cents = balance_cents + 7 WHERE account_id = 'management'")
        writer.execute("PRAGMA ignore_check_constraints=ON")
        writer.execute("UPDATE tasks_shuffles SET task_count = 2")
    for _ in range(bank.LONG_LOOK_EVERY):
        bank.read(home, readings)
    assert "accounts sum to 7 cents" in readings.faults[0]
    assert any(fault.startswith("management has ") for fault in readings.faults)
    assert any(fault.endswith(" of 2 is half there") for fault in readings.faults)

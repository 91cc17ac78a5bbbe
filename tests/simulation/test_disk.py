"""Kills, disk errors and lost writes; and that the harnesses find the bugs planted for them."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.bugs import DISK_BUGS, PROGRAM, plant
from tests.simulation.disk import fault_shim
from tests.simulation.disk.fault_shim import NotPossible
from tests.simulation.kill import whole_process
from tests.simulation.power_cut import journal
from tests.simulation.power_cut.disk import Disk
from tests.simulation.power_cut.journal import Record
from tests.support.installed_company import Company

TRIALS = 20


def or_skip(reason: NotPossible) -> None:
    """Skip with a reason; in ``.ci/run``, where everything must pass, fail instead."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"may not be skipped here: {reason}")
    pytest.skip(str(reason))


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Require a compiler for the shim."""
    try:
        fault_shim.compile_shim(tmp_path_factory.mktemp("shim"))
    except NotPossible as reason:
        or_skip(reason)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    module, *rest = arguments
    line = [sys.executable, "-m", f"tests.simulation.{module}", "--no-progress", *rest]
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])


@pytest.mark.usefixtures("compiler")
def test_company_survives_every_disk_harness() -> None:
    done = run("harnesses", "--round", str(TRIALS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{TRIALS} trials of each disk harness, all held" in done.stdout


@pytest.mark.usefixtures("compiler")
def test_unsynced_commit_is_found_with_a_replay_line() -> None:
    """Every harness looks for every bug in ``python -m tests.simulation.harnesses``."""
    looking = ("power_cut", "--images", "60", "--only", "logout", "--jobs", "1")
    done = run(*looking, "--bug", "synchronous-off")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "malformed" in done.stdout
    assert "replay: python -m tests.simulation.power_cut --seed 1 --day 0 --step " in done.stdout


@pytest.mark.parametrize("name", DISK_BUGS)
def test_disk_bugs_can_be_planted_and_compile(name: str, tmp_path: Path) -> None:
    for change in DISK_BUGS[name].changes:
        file = tmp_path / change.file
        file.parent.mkdir(exist_ok=True)
        if not file.exists():
            shutil.copyfile(PROGRAM / change.file, file)
        plant(file, change)
        compile(file.read_text(encoding="utf-8"), file, "exec")


def test_process_killed_by_strace_leaves_nothing_half_done(tmp_path: Path) -> None:
    try:
        whole_process.require_strace()
    except NotPossible as reason:
        or_skip(reason)
    company = Company(tmp_path)
    company.init()
    company.hire("bob", "worker")
    environment = company.environment("ada")
    calls = whole_process.count_calls(["task", "add", "Feed the cage"], environment, tmp_path / "calls")
    at = calls["pwrite64"] * 2 // 3
    done = whole_process.killed(["task", "add", "Polish the perch"], environment, "pwrite64", at)
    assert done.returncode in {-signal.SIGKILL, 128 + signal.SIGKILL}, done
    assert done.stdout == ""
    assert company.run("doctor").ok()["ok"]
    titles = {task["title"] for task in company.tasks()}
    assert {"Feed the cage"} <= titles <= {"Feed the cage", "Polish the perch"}


def test_simulated_disk_keeps_synced_data(tmp_path: Path) -> None:
    import random

    root = tmp_path / "root"
    root.mkdir()
    (root / "old").write_bytes(b"old")
    file = (root / "old").stat().st_ino
    disk = Disk(root)
    for record in (
        Record(journal.WRITE, file, 0, root / "old", b"new"),
        Record(journal.SYNC, file, 0, root / "old"),
        Record(journal.WRITE, file, 3, root / "old", b"er"),
        Record(journal.CREATE, 99, 0, root / "unnamed"),
    ):
        disk.take(record)
    images = set()
    for seed in range(60):
        target = tmp_path / str(seed)
        target.mkdir()
        disk.image(random.Random(seed), target)
        images.add(((target / "old").read_bytes(), (target / "unnamed").exists()))
    assert images == {(content, named) for content in (b"new", b"newer") for named in (True, False)}


def test_harness_reports_a_missing_compiler(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.simulation.disk.command import CANNOT_RUN
    from tests.simulation.disk.command import run as run_harness
    from tests.simulation.kill.__main__ import HARNESS

    monkeypatch.setenv("PATH", "")
    assert run_harness(HARNESS, ["--points", "1"]) == CANNOT_RUN
    assert "there is no cc" in capsys.readouterr().err

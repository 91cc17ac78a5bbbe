"""Environments in which a company cannot work: each is reported in a sentence and leaves the data unharmed."""

import json
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from popug_cli.cli.main import run
from popug_cli.kernel.errors import Unavailable
from popug_cli.kernel.home import Home
from popug_cli.messages.bus import ReplayEvents
from popug_cli.messages.company import BackUp, CheckHealth, Restore
from popug_cli.messages.tasks import AddTask, ListTasks, StatusFilter
from popug_cli.storage import mounts
from tests.support.company import InProcess


@contextmanager
def files_up_to(size_bytes: int) -> Iterator[None]:
    """Limit the size of files; a larger write gets EFBIG, since Python ignores SIGXFSZ."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_file_size_limit_is_reported_and_work_resumes_without_it(tmp_path: Path) -> None:
    company = InProcess(tmp_path / "home")
    company.hire("kesha")
    before = company.act("boss", AddTask(title="Feed the cage"))
    company.backend.close()
    size = max(file.stat().st_size for file in company.root.glob("popug.db*"))
    done: list[int] = []
    with files_up_to(size + 8192), pytest.raises(Unavailable) as refused:
        done.extend(company.act("boss", AddTask(title="Polish the perch")).number for _ in range(200))
    assert refused.value.code == "disk_full"
    assert f"larger than {(size + 8192) // 1024:,} KiB" in refused.value.message
    assert "ulimit -f" in refused.value.hint
    company.act("boss", AddTask(title="Fill the trough"))
    listed = company.act("boss", ListTasks(status=StatusFilter.ALL))
    assert listed.total == len(done) + 2
    assert listed.tasks[0].fee_cents == before.fee_cents
    assert company.backend.perform(CheckHealth()).ok


def test_replay_uses_home_without_a_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    company = InProcess(tmp_path / "home")

    def full() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", full)
    before = {*company.root.iterdir()}
    assert company.act("boss", ReplayEvents(verify=True)).differences == []
    assert {*company.root.iterdir()} == before


@pytest.mark.parametrize("line", [["balance"], ["task", "add", "Feed the cage"], ["doctor"], ["close-day"], ["backup"]])
def test_older_program_leaves_a_newer_home_as_it_is(
    line: list[str], newer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.read_bytes() for file in newer.rglob("*") if file.is_file()}
    assert run(["--home", str(newer), *line, "--json"]) == 7
    error = json.loads(capsys.readouterr().err.splitlines()[-1])["error"]
    assert (error["code"], error["details"]["found"]) == ("newer_database", "9999")
    assert {file: file.read_bytes() for file in newer.rglob("*") if file.is_file()} == before


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home migrated by a later program."""
    company = InProcess(tmp_path_factory.mktemp("newer") / "home")
    company.backend.close()
    with closing(sqlite3.connect(company.root / "popug.db", isolation_level=None)) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    return company.root


def test_killed_migration_is_finished_by_the_next_start() -> None:
    """``python -m tests.simulation.migration`` kills it at every point."""
    line = [sys.executable, "-m", "tests.simulation.migration", "--every", "6"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("each migration from 0006 was finished")


def test_read_only_home_answers_queries_and_refuses_commands(tmp_path: Path) -> None:
    """Run as the owner without the rights of root."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("there is no setpriv")
    company = InProcess(tmp_path / "home")
    company.backend.close()
    for path in sorted(company.root.rglob("*"), reverse=True):
        path.chmod(path.stat().st_mode & ~0o222)
    company.root.chmod(0o500)
    try:
        line = [setpriv, "--bounding-set", "-dac_override,-dac_read_search", sys.executable, "-m", "popug_cli"]
        asked = ["recover", "boss", "--password-stdin", "--json", "--home", str(company.root)]
        typed = "seven-cages-under-9-moons\n"
        done = subprocess.run([*line, *asked], input=typed, capture_output=True, text=True, check=False)
    finally:
        company.root.chmod(0o700)
    assert done.returncode == 8, done
    assert json.loads(done.stderr.splitlines()[-1])["error"]["code"] == "read_only"


def test_backup_allowed_and_restore_refused_on_network_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    company = InProcess(tmp_path / "home")
    there = tmp_path / "there"
    there.mkdir()
    told = tmp_path / "mountinfo"
    told.write_text(f"27 1 254:0 / / rw - ext4 /dev/vda rw\n50 27 0:60 / {there} rw - nfs4 server:/ rw\n")
    monkeypatch.setattr(mounts, "MOUNTINFO", told)
    company.backend.close()
    written = company.backend.perform(BackUp(path=str(there / "backup.zip")))
    backend = company.backend.for_home(Home(there / "home"))
    with pytest.raises(Unavailable) as refused:
        backend.perform(Restore(path=written.path))
    assert (refused.value.code, refused.value.details["file_system"]) == ("no_locks", "nfs4")
    assert [path.name for path in there.iterdir()] == ["backup.zip"]
    company.backend.perform(Restore(path=written.path))
    assert company.backend.perform(CheckHealth()).ok

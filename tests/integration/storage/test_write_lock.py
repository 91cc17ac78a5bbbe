"""Writers of one home queue in order; a signal ends a wait at once, and a dead writer blocks no other."""

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from popug_cli.app import LocalBackend
from popug_cli.bus.context import Runtime
from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.messages.company import BackUp, CheckHealth, Restore
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import AddTask, ListTasks, StatusFilter
from popug_cli.platform import file_id
from popug_cli.storage import sqlite, write_lock
from tests.support.company import PASSWORD, InProcess
from tests.support.running_server import PATIENCE_SECONDS, eventually

HOLDER = """
import sys
from pathlib import Path
from popug_cli.storage.write_lock import acquire, file_id

database = Path(sys.argv[1])
with acquire(database, file_id(database)):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def company(tmp_path: Path) -> InProcess:
    company = InProcess(tmp_path / "home")
    company.hire("kesha")
    return company


@contextmanager
def held(company: InProcess) -> Iterator["subprocess.Popen[str]"]:
    """Let another process hold the write lock."""
    line = [sys.executable, "-c", HOLDER, str(company.backend.home.database)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def are_waiting(company: InProcess, count: int) -> None:
    """Wait until that many writers are in the queue."""
    inode = f":{(company.root / write_lock.LOCK_FILE_NAME).stat().st_ino} "

    def are_there() -> bool:
        locks = Path("/proc/locks").read_text(encoding="utf-8").splitlines()
        return len([line for line in locks if "-> FLOCK" in line and inode in line]) == count

    eventually(are_there)


def titles(company: InProcess) -> list[str]:
    return [task.title for task in company.act("boss", ListTasks(status=StatusFilter.ALL)).tasks]


def test_lock_is_granted_in_order_even_if_waiters_die(company: InProcess) -> None:
    database = company.backend.home.database
    served: list[int] = []

    def write(number: int) -> None:
        with write_lock.acquire(database, file_id.file_id(database)):
            served.append(number)

    with held(company) as holder:
        threads = [threading.Thread(target=write, args=(number,)) for number in range(5)]
        for number, thread in enumerate(threads, 1):
            thread.start()
            are_waiting(company, number)
        holder.kill()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
    assert served == [0, 1, 2, 3, 4]
    assert stat.S_IMODE((company.root / write_lock.LOCK_FILE_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP)]
)
def test_signal_ends_a_wait_at_once_and_nothing_is_done(company: InProcess, number: int, code: int) -> None:
    line = [sys.executable, "-m", "popug_cli", "recover", "boss", "--password-stdin", "--home", str(company.root)]
    with (
        held(company) as holder,
        subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as one,
    ):
        assert one.stdin is not None
        one.stdin.write(f"{PASSWORD}\n")
        one.stdin.flush()
        are_waiting(company, 1)
        one.send_signal(number)
        output, errors = one.communicate(timeout=PATIENCE_SECONDS)
        assert holder.poll() is None
    assert (one.returncode, output, "Traceback" in errors) == (code, "", False)
    assert company.rows("SELECT 1 FROM bus_log WHERE type LIKE '%admin_recovered%'") == []


def test_wait_for_foreign_lock_ends_by_timeout_or_signal(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder of SQLite's own lock is not in the queue; the wait for it times out or ends on a signal."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.3)
    with closing(sqlite3.connect(company.root / "popug.db", isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable) as refused:
            company.act("boss", AddTask(title="Feed the cage"))
        monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", PATIENCE_SECONDS)
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            with pytest.raises(KeyboardInterrupt):
                company.act("boss", AddTask(title="Polish the perch"))
        finally:
            signal.signal(signal.SIGALRM, before)
    assert refused.value.code == "database_busy"
    assert titles(company) == []


def test_wait_for_lock_ends_unless_other_writers_progress(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def moving(database: Path) -> tuple[int, int]:
        looks.append(1)
        return (len(looks), 0) if len(looks) < 10 else (0, 0)

    monkeypatch.setattr(write_lock, "LOCK_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(write_lock, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(write_lock, "_wal_state", moving)
    with held(company), pytest.raises(Unavailable) as refused:
        company.act("boss", AddTask(title="Feed the cage"))
    assert refused.value.code == "database_busy"
    assert len(looks) > 10
    company.act("boss", AddTask(title="Polish the perch"))
    assert titles(company) == ["Polish the perch"]


class Stopped(BaseException):
    """The caller must stop."""


def test_stopped_caller_gives_up_lock_unless_write_is_required(
    company: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        raise Stopped

    runtime = LocalBackend(company.backend.home, while_waiting=stop).runtime
    with held(company):
        with pytest.raises(Stopped), runtime.writing(OPERATOR):
            pass
        monkeypatch.setattr(write_lock, "LOCK_TIMEOUT_SECONDS", 0.05)
        with pytest.raises(Unavailable), runtime.ignoring_stop_requests().writing(OPERATOR):
            pass
    with closing(sqlite3.connect(company.root / "popug.db", isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        with pytest.raises(Stopped), runtime.writing(OPERATOR):
            pass
        monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.3)
        with pytest.raises(Unavailable), runtime.ignoring_stop_requests().writing(OPERATOR):
            pass
    with runtime.writing(OPERATOR):
        pass


def test_home_restored_during_a_wait_is_not_written(company: InProcess, tmp_path: Path) -> None:
    backup = company.backend.perform(BackUp(path=str(tmp_path / "backup.zip")))
    other = company.backend.for_home(company.backend.home)
    other.runtime  # noqa: B018 - it is open before the restore
    faults: list[PopugError] = []

    def write() -> None:
        try:
            other.perform_as(company.people["boss"], AddTask(title="Feed the cage"))
        except PopugError as fault:
            faults.append(fault)

    with held(company) as holder:
        writer = threading.Thread(target=write)
        restoring = threading.Thread(target=lambda: company.backend.perform(Restore(path=backup.path)))
        restoring.start()
        are_waiting(company, 1)
        writer.start()
        are_waiting(company, 2)
        holder.kill()
        for thread in (restoring, writer):
            thread.join(PATIENCE_SECONDS)
    assert [fault.code for fault in faults] == ["home_replaced"]
    assert titles(company) == []
    other.close()
    other.perform_as(company.people["boss"], AddTask(title="Polish the perch"))
    assert titles(company) == ["Polish the perch"]
    assert company.backend.perform(CheckHealth()).ok


def test_writers_work_without_the_queue_file(company: InProcess) -> None:
    """Without its file, SQLite keeps writers apart as before; a deleted file is made again."""
    lock = company.root / write_lock.LOCK_FILE_NAME
    lock.unlink()
    lock.mkdir()
    company.act("boss", AddTask(title="Feed the cage"))
    lock.rmdir()
    company.act("boss", AddTask(title="Polish the perch"))
    assert lock.is_file()
    shutil.copyfile(os.devnull, lock)
    assert titles(company) == ["Feed the cage", "Polish the perch"]


def note(runtime: Runtime) -> None:
    with runtime.statement_writer() as written:
        written("INSERT INTO storage_heartbeats (name, seen_at) VALUES (?, ?)", [("kesha", "now")])


def change(runtime: Runtime) -> None:
    with runtime.writing(OPERATOR):
        pass


@pytest.mark.parametrize("write", [note, change])
def test_home_emptied_during_a_wait_is_not_written(tmp_path: Path, write: Callable[[Runtime], None]) -> None:
    company = InProcess(tmp_path / "home")
    runtime, database = company.backend.runtime, company.root / "popug.db"
    with closing(sqlite3.connect(database, isolation_level=None, check_same_thread=False)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")

        def empty() -> None:
            for name in ("popug.db", "popug.db-wal", "popug.db-shm"):
                (company.root / name).unlink(missing_ok=True)
            foreign.execute("ROLLBACK")

        later = threading.Timer(0.5, empty)
        later.start()
        with pytest.raises(Unavailable) as refusal:
            write(runtime)
        later.join()
    assert refusal.value.code == "home_replaced"

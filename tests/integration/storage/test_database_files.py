"""The files of an open database: opened by SQLite only, and their removal by another program is noticed at once."""

import os
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from popug_cli.bus.log import SELECT_LINK, SELECT_NEWEST_LINK
from popug_cli.messages.identity import SetEmail
from popug_cli.messages.tasks import AddTask
from popug_cli.storage.sqlite import SqliteDatabase
from popug_cli.storage.wal_check import DatabaseFiles
from tests.support.company import InProcess, SeededChance
from tests.support.running_server import RunningServer, create_home

OPENED_BY_POPUG = """
import os, sys

opened = []

def watch(event, arguments):
    if event != "open" or not str(arguments[0]).endswith(("popug.db", "-wal", "-shm")):
        return
    path = os.path.realpath(os.fsdecode(arguments[0]))
    held = {os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")}
    base = path.removesuffix("-wal").removesuffix("-shm")
    if held & {base, f"{base}-wal", f"{base}-shm"}:
        opened.append(path)

sys.addaudithook(watch)
"""

EVERY_WAY = """
from pathlib import Path
from popug_cli.app import LocalBackend
from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.cli.main import run
from popug_cli.kernel.home import Home
from popug_cli.messages.tasks import AddTask, ListTasks

home = Home(Path({root!r}))
company = ServedCompany(home, threads=2)
company.perform(AddTask(title="Sweep"), {token!r})
company.perform(ListTasks(), {token!r})
company.probe()
where = ["--home", {root!r}]
assert run(["doctor", *where]) == 0
assert run(["ledger", "verify", *where]) == 0
assert run(["backup", {root!r} + ".zip", *where]) == 0
assert run(["scheduler", "--once", *where]) == 0
company.perform(AddTask(title="Polish"), {token!r})
company.close()
local = LocalBackend(home)
local.perform(AddTask(title="Mop"), {token!r})
assert run(["restore", {root!r} + ".zip", "--yes", *where]) == 0
assert not opened, opened
"""


def test_no_file_opened_while_sqlite_holds_it(tmp_path: Path) -> None:
    company = create_home(tmp_path / "home")
    code = OPENED_BY_POPUG + EVERY_WAY.format(root=str(tmp_path / "home"), token=company.tokens["ada"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_watch_reports_file_opened_past_sqlite(tmp_path: Path) -> None:
    file = tmp_path / "popug.db"
    code = OPENED_BY_POPUG + textwrap.dedent(f"""
        import sqlite3
        open({str(file)!r}, "w").close()
        assert not opened
        database = sqlite3.connect({str(file)!r})
        database.execute("CREATE TABLE t (a)")
        open({str(file)!r}, "rb").close()
        print(opened)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{[str(file)]}\n"


def posix_locks(process: int, file: Path) -> list[str]:
    """Return the lines of ``/proc/locks`` about a file, for the locks that a process holds."""
    lines = [line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
    inode = f":{file.stat().st_ino}"
    return [" ".join(line[1:]) for line in lines if line[1] == "POSIX" and line[4] == str(process) and inode in line[5]]


def test_server_keeps_locks_on_wal_index(tmp_path: Path) -> None:
    company = create_home(tmp_path / "home")
    with RunningServer(company.home.root) as server:
        index = company.home.root / "popug.db-shm"
        before = posix_locks(server.process.pid, index)
        answer = server.post("tasks/add_task", {"title": "Sweep"}, company.tokens["ada"])
        assert answer.status == 200, answer.body
        assert before
        assert posix_locks(server.process.pid, index) == before
        assert server.end() == 0


def database_files(company: InProcess) -> DatabaseFiles:
    database = company.backend.runtime.database
    assert isinstance(database, SqliteDatabase)
    return DatabaseFiles(database, select_newest_link=SELECT_NEWEST_LINK, select_link=SELECT_LINK)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_replaced_file_not_intact(tmp_path: Path, suffix: str) -> None:
    company = InProcess(tmp_path / "home")
    company.hire("kesha")
    files = database_files(company)
    assert files.are_intact()
    file = tmp_path / "home" / f"popug.db{suffix}"
    (tmp_path / "copy").write_bytes(file.read_bytes())
    (tmp_path / "copy").replace(file)
    assert not files.are_intact()


@pytest.mark.parametrize("kept_bytes", [0, 1, 40, 4_000])
def test_cut_log_not_intact(tmp_path: Path, kept_bytes: int) -> None:
    company = InProcess(tmp_path / "home")
    company.hire("kesha")
    files = database_files(company)
    os.truncate(tmp_path / "home" / "popug.db-wal", kept_bytes)
    assert not files.are_intact()
    assert not files.are_intact()


def test_log_emptied_by_checkpoint_intact(tmp_path: Path) -> None:
    company = InProcess(tmp_path / "home")
    company.hire("kesha")
    files = database_files(company)
    for _ in range(3):
        company.act("boss", AddTask(title="Sweep"))
        assert files.are_intact()
        with closing(sqlite3.connect(tmp_path / "home" / "popug.db")) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert files.are_intact()


def test_busy_checkpoint_asks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    company = InProcess(tmp_path / "home")
    company.hire("kesha")
    files = database_files(company)
    with closing(sqlite3.connect(tmp_path / "home" / "popug.db")) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    monkeypatch.setattr(files, "_is_wal_complete", lambda states: True)
    known = files._known
    assert files.are_intact()
    assert files._known == known
    monkeypatch.undo()
    assert files.are_intact()
    assert files._known != known


def test_missing_side_files_refused(tmp_path: Path) -> None:
    company = InProcess(tmp_path / "home")
    company.backend.close()
    with pytest.raises(FileNotFoundError):
        DatabaseFiles(
            SqliteDatabase(tmp_path / "home" / "popug.db"),
            select_newest_link=SELECT_NEWEST_LINK,
            select_link=SELECT_LINK,
        )


def run_sql(database: Path, *statements: str) -> None:
    """Run SQL as a shell in another process does."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        for statement in statements:
            other.execute(statement).fetchall()


def test_vacuumed_database_intact(tmp_path: Path) -> None:
    company, database = InProcess(tmp_path / "home"), tmp_path / "home" / "popug.db"
    company.hire("kesha")
    for number in range(200):
        company.act("boss", AddTask(title=f"Task {number} " + "x" * 90))
    files = database_files(company)
    run_sql(database, "CREATE TABLE freed AS SELECT * FROM bus_log", "DROP TABLE freed")
    run_sql(database, "PRAGMA wal_checkpoint(TRUNCATE)")
    assert files.are_intact()
    before = database.stat().st_size
    run_sql(database, "PRAGMA foreign_keys=OFF", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)")
    assert database.stat().st_size < before
    assert files.are_intact()
    company.act("boss", AddTask(title="Sweep"))
    assert files.are_intact()


@pytest.mark.parametrize("is_cached", [True, False])
def test_older_copy_of_the_same_size_not_intact(tmp_path: Path, is_cached: bool) -> None:
    company, database = InProcess(tmp_path / "home"), tmp_path / "home" / "popug.db"
    company.hire("kesha")
    files = database_files(company)
    run_sql(database, "PRAGMA wal_checkpoint(TRUNCATE)")
    older = database.read_bytes()
    company.act("boss", SetEmail(username="kesha", email="k@example.com"))
    run_sql(database, "PRAGMA wal_checkpoint(TRUNCATE)")
    assert files.are_intact()
    files.remember_newest_link()
    assert len(older) == database.stat().st_size
    if is_cached:
        company.rows("SELECT hash FROM bus_links")
    database.write_bytes(older)
    assert not files.are_intact()


def test_database_of_another_company_not_intact(tmp_path: Path) -> None:
    company, other = InProcess(tmp_path / "home"), InProcess(tmp_path / "other", chance=SeededChance(2))
    company.hire("kesha")
    for name in ("kesha", "gosha"):
        other.hire(name)
    files = database_files(company)
    for root in ("home", "other"):
        run_sql(tmp_path / root / "popug.db", "PRAGMA wal_checkpoint(TRUNCATE)")
    assert files.are_intact()
    (tmp_path / "home" / "popug.db").write_bytes((tmp_path / "other" / "popug.db").read_bytes())
    assert not files.are_intact()

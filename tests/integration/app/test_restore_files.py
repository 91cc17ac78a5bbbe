"""A restore takes the log of a bare database along, and accepts regular files of a sensible size only."""

import os
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path
from threading import Event, Thread

import pytest

from popug_cli.app import LocalBackend
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.home import Home
from popug_cli.messages.company import CheckHealth, Restore, RestoreResult
from popug_cli.messages.tasks import AddTask, ListTasks, StatusFilter
from tests.support.company import InProcess
from tests.support.ledger_company import company, copy_of, original

__all__ = ["company", "original"]


@pytest.fixture
def target(company: InProcess, tmp_path: Path) -> InProcess:
    """Return a home into which the tests restore, with the users of the company."""
    restored = copy_of(company, tmp_path / "target")
    shutil.rmtree(restored.root)
    return restored


def restore(target: InProcess, file: Path) -> RestoreResult:
    return target.backend.perform(Restore(path=str(file)))


def refusal(target: InProcess, file: Path) -> PopugError:
    with pytest.raises(PopugError) as refused:
        restore(target, file)
    assert not target.root.exists()
    assert list(target.root.parent.glob(".target.*")) == []
    return refused.value


def titles(company: InProcess) -> list[str]:
    return [task.title for task in company.act("boss", ListTasks(status=StatusFilter.ALL)).tasks]


def copied_with_log(company: InProcess, folder: Path) -> Path:
    """Add a task, and copy the database with the log that holds it, as a user would while popug has it open."""
    company.act("boss", AddTask(title="Acknowledged"))
    folder.mkdir()
    for name in ("popug.db", "popug.db-wal"):
        shutil.copyfile(company.root / name, folder / name)
    assert (folder / "popug.db-wal").stat().st_size
    with closing(sqlite3.connect(f"{(folder / 'popug.db').as_uri()}?immutable=1", uri=True)) as without_log:
        assert without_log.execute("SELECT count(*) FROM tasks_tasks WHERE title = 'Acknowledged'").fetchone() == (0,)
    return folder / "popug.db"


@pytest.mark.parametrize("is_link", [False, True])
def test_log_next_to_a_database_is_restored(
    company: InProcess, target: InProcess, tmp_path: Path, is_link: bool
) -> None:
    file = copied_with_log(company, tmp_path / "usb")
    before = {path.name: path.read_bytes() for path in file.parent.iterdir()}
    if is_link:
        (tmp_path / "link.db").symlink_to(file)
        file = tmp_path / "link.db"
    restore(target, file)
    assert "Acknowledged" in titles(target)
    assert titles(target) == titles(company)
    assert target.backend.perform(CheckHealth()).ok
    assert {path.name: path.read_bytes() for path in (tmp_path / "usb").iterdir()} == before


def test_log_next_to_a_link_is_not_ignored(company: InProcess, target: InProcess, tmp_path: Path) -> None:
    """As in a store that keeps each file under a name of its own, and shows it by a link."""
    copied = copied_with_log(company, tmp_path / "usb")
    (tmp_path / "store").mkdir()
    for name, stored in (("popug.db", "a1"), ("popug.db-wal", "b2")):
        (tmp_path / "usb" / name).rename(tmp_path / "store" / stored)
        (tmp_path / "usb" / name).symlink_to(tmp_path / "store" / stored)
    assert "popug.db-wal is not next to" in refusal(target, copied).message


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_log_in_an_archive_is_not_ignored(company: InProcess, target: InProcess, tmp_path: Path, suffix: str) -> None:
    copied = copied_with_log(company, tmp_path / "usb")
    with zipfile.ZipFile(tmp_path / "home.zip", "w") as archive:
        archive.write(copied, "popug.db")
        archive.write(copied.with_name("popug.db-wal"), f"popug.db{suffix}")
    assert f"popug.db{suffix}" in refusal(target, tmp_path / "home.zip").message


def test_rollback_journal_next_to_a_database_is_replayed(company: InProcess, target: InProcess, tmp_path: Path) -> None:
    (tmp_path / "usb").mkdir()
    file = shutil.copyfile(company.root / "popug.db", tmp_path / "usb" / "live.db")
    crash = (
        "import os, sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "db.execute('PRAGMA journal_mode=DELETE'); db.execute('PRAGMA cache_size=1'); db.execute('BEGIN');"
        "db.execute(\"UPDATE tasks_tasks SET title = 'half of a transaction'\");"
        "db.execute(\"UPDATE identity_users SET email = 'x' || user_id\");"
        "db.execute('PRAGMA cache_spill=1'); db.execute('CREATE TABLE t AS SELECT zeroblob(4000) FROM bus_log');"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", crash, str(file)], check=True)
    assert (tmp_path / "usb" / "live.db-journal").stat().st_size
    restore(target, file)
    assert titles(target) == titles(company)


@pytest.mark.parametrize("damage", ["garbage", "cut", "flipped", "salt", "of another company"])
def test_damaged_log_is_refused(company: InProcess, target: InProcess, tmp_path: Path, damage: str) -> None:
    company.act("boss", AddTask(title="In an earlier commit of the log"))
    file = copied_with_log(company, tmp_path / "usb")
    log = file.with_name("popug.db-wal")
    content = log.read_bytes()
    if damage == "of another company":
        other = InProcess(tmp_path / "other")
        content = (other.root / "popug.db-wal").read_bytes()
    changed = {
        "garbage": b"no log" * 1000,
        "cut": content[:-1000],
        "flipped": content[:500] + bytes([content[500] ^ 1]) + content[501:],
        "salt": content[:16] + bytes(8) + content[24:],
        "of another company": content,
    }
    log.write_bytes(changed[damage])
    assert refusal(target, file).exit_status == 7


def test_database_in_use_is_refused_or_whole(company: InProcess, target: InProcess, tmp_path: Path) -> None:
    """A writer that never pauses: the file is refused with a command that works, and nothing is left."""
    stop = Event()

    def write() -> None:
        with closing(sqlite3.connect(company.root / "popug.db", isolation_level=None)) as database:
            while not stop.wait(0.002):
                database.execute("INSERT OR REPLACE INTO storage_heartbeats VALUES ('test', hex(randomblob(8)))")

    company.backend.close()
    writer = Thread(target=write)
    writer.start()
    try:
        error = refusal(target, company.root / "popug.db")
    finally:
        stop.set()
        writer.join()
    assert (error.code, error.exit_status) == ("file_in_use", 8)
    assert f"popug backup FILE --home {company.root}" in error.hint


def test_only_regular_files_are_read(target: InProcess, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "to-zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "loop", "to-zero", "folder", "/dev/zero", "/dev/null", "no/such/file", "x" * 300):
        error = refusal(target, tmp_path / name)
        assert (error.code, error.exit_status) == ("unreadable_file", 2), name
        assert name in error.message


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_log_must_be_a_regular_file(company: InProcess, target: InProcess, tmp_path: Path, suffix: str) -> None:
    company.backend.close()
    file = shutil.copyfile(company.root / "popug.db", tmp_path / "bare.db")
    os.mkfifo(tmp_path / f"bare.db{suffix}")
    error = refusal(target, file)
    assert error.code == "unreadable_file"
    assert f"bare.db{suffix}" in error.message


def zipped(file: Path, *, method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> Path:
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr({"database": "popug.db", "settings": "config.toml"}[name], content)
    return file


def test_archive_that_expands_a_thousandfold_is_refused(target: InProcess, tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("popug.db", "w") as file,
    ):
        for _ in range(100):
            file.write(bytes(1024 * 1024))
    error = refusal(target, tmp_path / "bomb")
    assert (error.code, "would grow to 102,400 KiB" in error.message) == ("corrupt_database", True)


def test_archive_with_endless_settings_is_refused(company: InProcess, target: InProcess, tmp_path: Path) -> None:
    company.backend.close()
    database = (company.root / "popug.db").read_bytes()
    assert "config.toml" in refusal(target, zipped(tmp_path / "b", database=database, settings=b"#" * 2**21)).message


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archive_of_another_method_is_refused(
    company: InProcess, target: InProcess, tmp_path: Path, method: int
) -> None:
    company.backend.close()
    file = zipped(tmp_path / "other", method=method, database=(company.root / "popug.db").read_bytes())
    assert refusal(target, file).code == "corrupt_database"


def test_archive_with_two_databases_is_refused(company: InProcess, target: InProcess, tmp_path: Path) -> None:
    company.backend.close()
    with zipfile.ZipFile(tmp_path / "twice", "w") as archive:
        archive.write(company.root / "popug.db", "popug.db")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.write(company.root / "popug.db", "popug.db")
    assert "two files named popug.db" in refusal(target, tmp_path / "twice").message


def test_archive_with_an_endless_directory_is_refused(target: InProcess, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "many", "w") as archive:
        for number in range(20_000):
            archive.writestr(f"{number:0100}", b"")
    assert "too long" in refusal(target, tmp_path / "many").message


def test_sparse_file_is_refused_before_it_fills_the_disk(company: InProcess, target: InProcess, tmp_path: Path) -> None:
    company.backend.close()
    for name, size_bytes in (("longer", 10**9), ("huge", 2**42)):
        file = shutil.copyfile(company.root / "popug.db", tmp_path / name)
        os.truncate(file, size_bytes)
        assert refusal(target, file).exit_status in {7, 8}


def test_commands_of_one_process_leave_no_log(company: InProcess) -> None:
    company.act("boss", AddTask(title="The last"))
    company.backend.close()
    assert not (company.root / "popug.db-wal").exists()
    assert LocalBackend(Home(company.root), clock=company.clock).perform(CheckHealth()).ok

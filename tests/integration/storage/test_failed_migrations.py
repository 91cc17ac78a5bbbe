"""Migrations that fail, or are killed, leave one copy of the database, and the error names it."""

import json
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from popug_cli.cli.main import run
from popug_cli.kernel.errors import IntegrityViolation, PopugError
from popug_cli.kernel.home import Home
from popug_cli.storage import migrate
from tests.generate.releases import unpack

VERSION = "0006"
ATTEMPTS = 3


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    unpack(VERSION, home)
    return home


def copies(home: Home) -> list[str]:
    return sorted(path.name for path in home.backups.iterdir())


def rows(database: Path) -> int:
    with closing(sqlite3.connect(database)) as opened:
        return int(opened.execute("SELECT count(*) FROM bus_log").fetchone()[0])


def test_failed_attempts_leave_one_copy_and_name_it(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(database: Path) -> None:
        raise IntegrityViolation("corrupt_database", "The migration fails.", hint="Run `popug doctor`.")

    monkeypatch.setattr(migrate, "migrate", fail)
    for _ in range(ATTEMPTS):
        with pytest.raises(PopugError) as error:
            migrate.migrate_if_older(home)
        assert f"in {home.backups}/before-migration-from-{VERSION}.db," in error.value.hint
        assert error.value.hint.startswith("Run `popug doctor`. ")
    assert copies(home) == [f"before-migration-from-{VERSION}.db"]
    assert rows(home.backups / f"before-migration-from-{VERSION}.db") == rows(home.database)
    monkeypatch.undo()
    migrate.migrate_if_older(home)
    (kept,) = copies(home)
    assert kept.startswith(f"before-migration-from-{VERSION}-")
    assert migrate.version_of(home.backups / kept) == VERSION


def test_bug_in_a_migration_leaves_one_copy(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(database: Path) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(migrate, "migrate", fail)
    for _ in range(ATTEMPTS):
        assert run(["--home", str(home.root), "doctor", "--json"]) == 1
        error = json.loads(capsys.readouterr().err)["error"]
        assert (error["code"], "RuntimeError: broken" in error["message"]) == ("internal", True)
        assert f"in {home.backups}/before-migration-from-{VERSION}.db," in error["hint"]
    assert copies(home) == [f"before-migration-from-{VERSION}.db"]


def test_killed_attempts_leave_one_copy(home: Home) -> None:
    for _ in range(ATTEMPTS):
        child = os.fork()
        if child == 0:
            try:
                migrate.migrate = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
                migrate.migrate_if_older(home)
            finally:
                os._exit(70)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert copies(home) == [f"before-migration-from-{VERSION}.db"]
    migrate.migrate_if_older(home)
    (kept,) = copies(home)
    assert kept.startswith(f"before-migration-from-{VERSION}-")


def test_copy_that_cannot_be_made_keeps_the_earlier_one(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.make()
    earlier = home.backups / f"before-migration-from-{VERSION}.db"
    earlier.write_text("earlier")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(migrate, "sync", full)
    with pytest.raises(PopugError) as error:
        migrate.migrate_if_older(home)
    assert error.value.code == "disk_full"
    assert earlier.read_text() == "earlier"
    assert copies(home) == [earlier.name]

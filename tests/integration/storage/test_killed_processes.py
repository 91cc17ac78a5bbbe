"""After a kill, the next command names and removes the files that the process left, or finishes its restore."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from popug_cli.platform import temporary
from tests.support.identity_company import CHEAP

PASSWORD = "seven-cages-under-9-moons"
KILLED = """
import os, signal, sys
from pathlib import Path

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

{patch}
sys.argv[0] = "popug"
from popug_cli.__main__ import main
main()
"""
KILL_IN_VERIFY = "from popug_cli.app.workflows import backup, restore; backup.verify = restore.verify = die"
KILL_AFTER_EXCHANGE = """
from popug_cli.platform import swap_dirs
exchange = swap_dirs.exchange
swap_dirs.exchange = lambda *paths: exchange(*paths) and die()
"""
KILL_BETWEEN_TWO_RENAMES = """
from popug_cli.platform import swap_dirs
swap_dirs.exchange = lambda *paths: False
rename = Path.rename
Path.rename = lambda self, target: (rename(self, target), "before-restore" in str(target) and die())
"""
KILL_AFTER_SWAP = "from popug_cli.storage import temporary_home; temporary_home.finish_swap = die"
KILL_BEFORE_RENAME = "from popug_cli.platform import files; files.move_into_place = die"


class Place:
    """A folder with a company; its commands are processes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.session = folder, folder / "home", folder / "config" / "session.json"

    def run(self, *arguments: str, patch: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a command; with a patch, it must be killed by itself."""
        program = ["-m", "popug_cli"] if patch is None else ["-c", KILLED.format(patch=patch)]
        environment = {"HOME": str(self.folder), "POPUG_HOME": str(self.home), "POPUG_SESSION": str(self.session)}
        done = subprocess.run(
            [sys.executable, *program, *arguments], input=f"{PASSWORD}\n", capture_output=True, text=True, check=False,
            env={"PATH": os.environ["PATH"], **environment, **CHEAP}, cwd=self.folder,
        )  # fmt: skip
        assert patch is None or done.returncode == -signal.SIGKILL, done
        return done

    def ok(self, *arguments: str) -> str:
        """Run a command that must succeed, and return what it wrote to stderr."""
        done = self.run(*arguments)
        assert done.returncode == 0, done
        return done.stderr

    def hidden(self) -> list[Path]:
        """Return the temporary files and directories, wherever they are."""
        return sorted(path for path in self.folder.rglob(".*"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("made"))
    place.ok("init", "--admin", "ada", "--email", "ada@example.com", "--time-zone", "Europe/Berlin", "--password-stdin")
    place.ok("backup", str(place.folder / "good.zip"))
    return place


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Place:
    shutil.copytree(made.folder, tmp_path / "place")
    place = Place(tmp_path / "place")
    place.session.write_text(made.session.read_text().replace(str(made.folder), str(place.folder)))
    return place


@pytest.mark.parametrize("arguments", [["backup"], ["backup", "other/there.zip"], ["restore", "good.zip", "--yes"]])
def test_copies_of_killed_command_are_named_and_removed(place: Place, arguments: list[str]) -> None:
    (place.folder / "other").mkdir()
    place.run(*arguments, patch=KILL_IN_VERIFY)
    left = [path for path in place.hidden() if path.is_dir() and not path.is_symlink()]
    assert any((path / "popug.db").exists() for path in left)
    stderr = place.ok("config", "show")
    assert place.hidden() == []
    assert all(str(path) in stderr for path in left), stderr
    assert place.ok("doctor") == ""


@pytest.mark.parametrize(
    ("patch", "command"),
    [
        (KILL_AFTER_EXCHANGE, "doctor"),
        (KILL_AFTER_EXCHANGE, "whoami"),
        (KILL_AFTER_SWAP, "config show"),
        (KILL_BETWEEN_TWO_RENAMES, "config show"),
    ],
)
def test_killed_restore_is_finished_and_named(place: Place, patch: str, command: str) -> None:
    place.ok("config", "set", "identity.session_hours", "5")
    place.run("restore", "good.zip", "--yes", patch=patch)
    done = place.run(*command.split())
    (kept,) = place.folder.glob("home.before-restore-*")
    assert "A restore of" in done.stderr
    assert str(kept) in done.stderr
    assert "session_hours = 5" in (kept / "config.toml").read_text()
    assert "session_hours" not in "".join(file.read_text() for file in place.home.glob("config.toml"))
    assert place.hidden() == []
    assert place.ok("doctor") == ""


def test_killed_restore_is_finished_by_another_restore(place: Place) -> None:
    place.run("restore", "good.zip", "--yes", patch=KILL_AFTER_EXCHANGE)
    assert "is finished now" in place.ok("restore", "good.zip", "--yes")
    assert len([*place.folder.glob("home.before-restore-*")]) == 2
    assert place.hidden() == []


def test_killed_restore_is_finished_by_init(place: Place) -> None:
    place.run("restore", "good.zip", "--yes", patch=KILL_BETWEEN_TWO_RENAMES)
    assert not place.home.exists()
    done = place.run("init", "--admin", "b", "--email", "b@example.com", "--password-stdin")
    assert done.returncode == 6, done
    assert "is finished now" in done.stderr
    assert place.ok("doctor") == ""


def test_killed_restore_of_new_home_leaves_nothing(place: Place) -> None:
    shutil.rmtree(place.home)
    place.run("restore", "good.zip", "--yes", patch=KILL_IN_VERIFY)
    (left,) = place.hidden()[:1]
    done = place.run("doctor")
    assert done.returncode == 3, done
    assert str(left) in done.stderr
    assert place.hidden() == []


@pytest.mark.parametrize(
    "arguments", [["login", "ada", "--password-stdin"], ["token", "rotate"], ["config", "set", "mail.from", "b@b.de"]]
)
def test_files_of_killed_command_are_named_and_removed(place: Place, arguments: list[str]) -> None:
    place.run(*arguments, patch=KILL_BEFORE_RENAME)
    left = place.hidden()
    assert left
    stderr = place.ok("config", "show")
    assert place.hidden() == []
    assert all(str(path) in stderr for path in left), stderr
    assert place.ok("whoami") == ""


def test_export_of_killed_command_is_named_and_removed(place: Place) -> None:
    patch = "from popug_cli.cli.output import file; file._write_to_disk = die"
    place.run("tasks", "export", "--out", "a.jsonl", patch=patch)
    (left,) = place.hidden()
    assert str(left.name) in place.ok("tasks", "export", "--out", "b.jsonl")
    assert place.hidden() == []


@pytest.mark.parametrize("arguments", [["doctor"], ["backup"], ["events", "replay", "--verify"]])
def test_rebuilt_read_model_is_gone_after_a_kill(place: Place, arguments: list[str]) -> None:
    directory = place.folder / "tmp"
    directory.mkdir()
    patch = f"""
os.environ["TMPDIR"] = {str(directory)!r}
from popug_cli.app.workflows import replay
from popug_cli.audit import ledger_checks
replay.differences = ledger_checks.differences = die
"""
    place.run(*arguments, patch=patch)
    assert list(directory.iterdir()) == []


def test_running_process_keeps_its_files(place: Place) -> None:
    with (
        temporary.temporary_directory(place.home) as directory,
        temporary.temporary_file(place.home / "config.toml") as (descriptor, file),
    ):
        place.ok("config", "show")
        assert directory.exists()
        assert file.exists()
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        place.ok("config", "show")
        assert not file.exists()


def test_files_of_others_are_left_alone(place: Place) -> None:
    """A name alone removes nothing: a directory must have the marker, and a link is not followed."""
    precious = place.folder / ".home.0123456789abcdef.popug"
    precious.mkdir()
    (precious / "popug.db").write_text("precious")
    note = place.home / "backups" / ".x.0123456789abcdef.popug"
    note.symlink_to(place.folder / "config")
    similar = place.home / ".config.toml.popug"
    similar.write_text("mine")
    place.ok("config", "show")
    assert (precious / "popug.db").read_text() == "precious"
    assert place.session.exists()
    assert similar.read_text() == "mine"

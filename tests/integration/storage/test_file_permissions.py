"""File permissions: every file is private with any umask, and refused if it is not."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from popug_cli.cli.main import run
from popug_cli.cli.state import session_file
from popug_cli.kernel.home import Home
from popug_cli.storage import migrate
from tests.support.identity_company import CHEAP

LIVE = """
import os, sys
from datetime import datetime, UTC
from pathlib import Path
from popug_cli.cli.state import session_file
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.company import SetSetting
from popug_cli.messages.identity import RotateKey
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import AddTask, CompleteTask
from popug_cli.storage import migrate
from tests.support.company import InProcess, SetClock

root = Path(sys.argv[1])
os.umask(int(sys.argv[2], 8))
company = InProcess(root / "home", clock=SetClock(datetime.now(UTC)))
with session_file.reserve(company.backend.home) as save:
    save("a token")
company.hire("kesha")
for number in (1, 2):  # one reward may be as small as its fee, so that nothing is paid
    company.act("boss", AddTask(title="Feed the cage"))
    company.act("kesha", CompleteTask(number=number))
company.act("boss", RotateKey())
company.backend.perform(SetSetting(key="mail.from", value="popug@example.com"), actor=OPERATOR)
company.act("boss", CloseDay())
migrate._back_up(company.backend.home, "0001")
for path in sorted(root.rglob("*")):
    print(f"{path.stat().st_mode & 0o7777:o} {'d' if path.is_dir() else 'f'} {path.relative_to(root)}")
"""


@pytest.mark.parametrize("umask", ["000", "022", "077"])
def test_every_file_is_private_with_any_umask(tmp_path: Path, umask: str) -> None:
    """The commands run in process, so that no command line sets the umask right before."""
    session = {"POPUG_SESSION": str(tmp_path / "config" / "popug" / "session.json")}
    lived = subprocess.run(
        [sys.executable, "-c", LIVE, str(tmp_path), umask],
        env={**os.environ, **CHEAP, **session}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert lived.returncode == 0, lived.stderr
    modes = [line.split(" ", 2) for line in lived.stdout.splitlines()]
    assert {mode for mode, kind, _ in modes if kind == "f"} == {"600"}, modes
    assert {mode for mode, kind, path in modes if kind == "d" and path != "config"} == {"700"}, modes
    paths = {path for _, _, path in modes}
    assert {"home/popug.db", "home/popug.db-wal", "home/popug.db-shm", "home/config.toml"} <= paths
    assert {"config/popug/session.json", "home/keys/signing"} <= paths
    for folder, count in (("home/keys/", 3), ("home/backups/", 1), ("home/mail/new/", 1)):
        assert len([path for path in paths if path.startswith(folder)]) == count, folder


def test_empty_directory_is_closed_and_used_one_left_alone(tmp_path: Path) -> None:
    for name, mode in (("empty", 0o700), ("used", 0o755)):
        root = tmp_path / name
        root.mkdir()
        root.chmod(0o755)
        if name == "used":
            (root / "a file of somebody").touch()
        migrate.create(Home(root))
        assert stat.S_IMODE(root.stat().st_mode) == mode
        assert stat.S_IMODE((root / "popug.db").stat().st_mode) == 0o600


# --- the session file ---------------------------------------------------------------------------


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POPUG_SESSION", str(tmp_path / "session.json"))
    monkeypatch.delenv("POPUG_TOKEN", raising=False)
    return tmp_path / "session.json"


def remember(home: Home, token: str) -> None:
    with session_file.reserve(home) as keep:
        keep(token)


def test_session_is_written_by_rename(session: Path, tmp_path: Path) -> None:
    remember(Home(tmp_path / "a"), "one")
    first, opened = session.stat().st_ino, session.open("rb")
    remember(Home(tmp_path / "b"), "two")
    assert session.stat().st_ino != first
    with opened:
        assert json.loads(opened.read()) == {str(tmp_path / "a"): "one"}
    assert json.loads(session.read_text()) == {str(tmp_path / "a"): "one", str(tmp_path / "b"): "two"}
    assert [path.name for path in tmp_path.iterdir()] == ["session.json"]


def test_failed_write_of_session_leaves_the_old_one(
    session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(Home(tmp_path / "a"), "one")
    before = session.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Exception, match="The disk is full"):
        remember(Home(tmp_path / "b"), "two")
    assert session.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["session.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o601])
def test_session_readable_by_others_refused_with_chmod_hint(
    session: Path, tmp_path: Path, mode: int, capsys: pytest.CaptureFixture[str]
) -> None:
    remember(Home(tmp_path / "a"), "one")
    session.chmod(mode)
    for line in (["whoami"], ["logout"], ["init", "--admin", "ada", "--email", "ada@example.com", "--password-stdin"]):
        assert run(["--home", str(tmp_path / "a"), "--json", *line]) == 4
        error = json.loads(capsys.readouterr().err)["error"]
        assert error["code"] == "insecure_file"
        assert f"chmod 600 {session}" in error["hint"]
    assert not (tmp_path / "a").exists()

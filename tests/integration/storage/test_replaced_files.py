"""Files are replaced through links, by random names that only this process creates, and one change after another."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from popug_cli.cli.output.file import write_new_file
from popug_cli.cli.state import session_file
from popug_cli.cli.state.last_seen import LastSeen
from popug_cli.kernel.errors import NotAuthenticated, PopugError
from popug_cli.kernel.home import Home, replace_restoring_on_error
from popug_cli.platform import files, temporary
from popug_cli.platform.files import replace_file
from tests.support.identity_company import CHEAP

LOGINS = 6


def write_session(path: Path) -> None:
    os.environ["POPUG_SESSION"] = str(path)
    with session_file.reserve("http://localhost:1") as save:
        save("token")


def restore_setting(path: Path) -> None:
    with replace_restoring_on_error(path, b"new"):
        pass


WRITERS: list[Callable[[Path], object]] = [
    lambda path: replace_file(path, b"new"),
    lambda path: write_new_file(path, ["new"], force=True),
    restore_setting,
    write_session,
]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("is_there", [True, False])
def test_link_is_kept_and_its_target_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], object], is_there: bool
) -> None:
    """Two links, a relative and an absolute one, as dotfiles make them."""
    monkeypatch.setenv("POPUG_SESSION", "")
    dotfiles, home = tmp_path / "dotfiles", tmp_path / "home"
    dotfiles.mkdir()
    home.mkdir()
    if is_there:
        (dotfiles / "file").write_text("{}")
        (dotfiles / "file").chmod(0o600)
    (dotfiles / "current").symlink_to("file")
    (home / "link").symlink_to(dotfiles / "current")
    write(home / "link")
    assert (home / "link").is_symlink()
    assert (dotfiles / "current").is_symlink()
    assert "{}" != (dotfiles / "file").read_text() != ""
    assert {path.name for path in tmp_path.rglob("*")} == {"dotfiles", "home", "file", "current", "link"}


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("target", ["directory", "pipe", "circle", "missing/file"])
def test_target_that_is_not_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], object], target: str
) -> None:
    monkeypatch.setenv("POPUG_SESSION", "")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to("link")
    (tmp_path / "link").symlink_to(target)
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write(tmp_path / "link")
    except (OSError, PopugError):
        pass
    else:
        assert target == "pipe"  # an export writes into a pipe
        assert os.read(reader, 10) == b"new"
    os.close(reader)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "pipe").is_fifo()
    assert not (tmp_path / "missing").exists()
    assert not list(tmp_path.rglob("*.popug"))


def test_device_behind_a_link_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "popug-close.service").symlink_to("/dev/null")  # a masked unit of systemd
    with pytest.raises(OSError, match="not a regular file"):
        replace_file(tmp_path / "popug-close.service", b"new")
    assert Path("/dev/null").is_char_device()


def test_temporary_names_are_random_and_created_exclusively(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, int]] = []
    real = os.open

    def watched(path: str | Path, flags: int, *rest: int) -> int:
        opened.append((str(path), flags))
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", watched)
    for write in WRITERS[:3]:
        for _ in range(2):
            write(tmp_path / "file")
    created = [(path, flags) for path, flags in opened if flags & os.O_CREAT]
    assert len({path for path, _ in created}) == len(created) >= 6
    assert all(flags & os.O_EXCL and flags & os.O_NOFOLLOW for _, flags in created)
    assert all(str(os.getpid()) not in Path(path).name.split(".") for path, _ in created)


def test_planted_temporary_name_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a name that another account guesses receives nothing."""
    monkeypatch.setattr(os, "urandom", bytes)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    temporary.temporary_path(tmp_path / "session.json").symlink_to(victim)
    with pytest.raises(FileExistsError):
        replace_file(tmp_path / "session.json", b"secret")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("name", ["ж" * 127, "😀" * 63, "\udcff" * 200, "n" * 255, "line\nbreak", " ", "-"])
def test_file_with_any_name_is_replaced(tmp_path: Path, name: str) -> None:
    replace_file(tmp_path / name, b"new")
    assert (tmp_path / name).read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 1


def test_file_that_is_a_mount_point_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """rename(2) fails with EBUSY on one file that a container mounts."""

    def busy(self: Path, target: Path) -> Path:
        raise OSError(errno.EBUSY, "Device or resource busy", str(target))

    file = tmp_path / "config.toml"
    file.write_text("a much longer old content")
    monkeypatch.setattr(Path, "replace", busy)
    replace_file(file, b"new")
    assert file.read_bytes() == b"new"

    def fail() -> None:
        with replace_restoring_on_error(file, b"newer"):
            assert file.read_bytes() == b"newer"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert file.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [file]


LOGIN = """
import os, sys
os.environ["POPUG_SESSION"] = sys.argv[1]
from popug_cli.cli.state import session_file
sys.stdin.readline()
with session_file.reserve(sys.argv[2]) as save:
    save("token of " + sys.argv[2])
"""


def test_six_logins_at_once_are_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = tmp_path / "session.json"
    servers = [f"http://localhost:{8000 + number}" for number in range(LOGINS)]
    for _ in range(3):
        processes = [
            subprocess.Popen([sys.executable, "-c", LOGIN, str(session), server], stdin=subprocess.PIPE)
            for server in servers
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.close()
        assert [process.wait(60) for process in processes] == [0] * LOGINS
        monkeypatch.setenv("POPUG_SESSION", str(session))
        assert [session_file.token_for(server) for server in servers] == [f"token of {server}" for server in servers]
        session.unlink()


def test_logins_and_logouts_of_threads_are_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPUG_SESSION", str(tmp_path / "session.json"))

    def work(number: int) -> None:
        for _ in range(5):
            with session_file.reserve(f"http://localhost:{number}") as save:
                save("token")
            session_file.forget(f"http://localhost:{number}")
        with session_file.reserve(f"http://localhost:{number}") as save:
            save(f"last {number}")

    with ThreadPoolExecutor(LOGINS) as pool:
        list(pool.map(work, range(LOGINS)))
    assert [session_file.token_for(f"http://localhost:{number}") for number in range(LOGINS)] == [
        f"last {number}" for number in range(LOGINS)
    ]


def test_lock_that_another_process_keeps_ends_in_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPUG_SESSION", str(tmp_path / "session.json"))
    monkeypatch.setattr(files, "LOCK_TIMEOUT_SECONDS", 0.1)
    with (
        files.locked_directory(tmp_path),
        pytest.raises(PopugError, match="another process holds its lock") as refusal,
        session_file.reserve("http://localhost:1") as save,
    ):
        save("token")
    assert (refusal.value.code, refusal.value.exit_status) == ("read_only", 8)


def test_damaged_session_is_moved_next_to_the_target_of_its_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POPUG_SESSION", str(tmp_path / "link"))
    (tmp_path / "dotfiles").mkdir()
    target = tmp_path / "dotfiles" / "session.json"
    target.write_text("damaged")
    target.chmod(0o600)
    (tmp_path / "link").symlink_to(target)
    assert session_file.move_damaged_file() == tmp_path / "dotfiles" / "session.damaged.json"
    assert (tmp_path / "link").is_symlink()
    assert session_file.move_damaged_file() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_session_of_another_account_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPUG_SESSION", str(tmp_path / "session.json"))
    (tmp_path / "session.json").write_text("{}")
    (tmp_path / "session.json").chmod(0o600)
    os.chown(tmp_path / "session.json", 54321, -1)
    uses: list[Callable[[], object]] = [
        lambda: session_file.token_for("x"),
        session_file.check,
        lambda: session_file.forget("x"),
    ]
    for use in uses:
        with pytest.raises(NotAuthenticated, match="uid 54321") as refusal:
            use()
        assert refusal.value.code == "insecure_file"
    assert (tmp_path / "session.json").stat().st_uid == 54321


def test_last_seen_of_parallel_commands_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import UTC, datetime

    monkeypatch.setenv("POPUG_SESSION", str(tmp_path / "session.json"))
    first, second = LastSeen("http://a", ""), LastSeen("http://b", "")
    first.remember(1, datetime.now(UTC))
    second.remember(2, datetime.now(UTC))
    found = [LastSeen(address, "").last() for address in ("http://a", "http://b")]
    assert [seen[0] if seen else None for seen in found] == [1, 2]


def test_config_set_writes_through_a_link(tmp_path: Path) -> None:
    home, dotfiles = tmp_path / "home", tmp_path / "dotfiles"
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "POPUG_HOME": str(home), **CHEAP}

    def run(*arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "popug_cli", *arguments],
            env=environment, input=b"seven-cages-under-9-moons\n", check=True, capture_output=True,
        )  # fmt: skip

    run("init", "--admin", "ada", "--email", "ada@example.com", "--time-zone", "Etc/UTC", "--password-stdin")
    dotfiles.mkdir()
    (dotfiles / "popug.toml").write_text("# mine\n")
    (Home(home).config).symlink_to("../dotfiles/popug.toml")
    run("config", "set", "mail.from", "a@example.com")
    run("backup", str(tmp_path / "b.zip"))
    assert Home(home).config.is_symlink()
    assert "a@example.com" in (dotfiles / "popug.toml").read_text()
    assert (dotfiles / "popug.toml").read_text().startswith("# mine\n")
    run("restore", str(tmp_path / "b.zip"), "--yes")
    assert "a@example.com" in Home(home).config.read_text()

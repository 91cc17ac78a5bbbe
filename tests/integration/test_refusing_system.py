"""What the system refuses is a fault of the place with its sentence, and never one of popug's own."""

import errno
import os
from pathlib import Path

import pytest

from popug_cli.cli import main
from popug_cli.cli.out_file import unwritable
from popug_cli.identity import keys, passwords
from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.messages.principal import OPERATOR
from popug_cli.storage import archive
from popug_cli.storage.mounts import kind_without_locks
from tests.integration.support import InProcess


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EACCES, "read_only"),
        (errno.EISDIR, "read_only"),
        (errno.ELOOP, "read_only"),
        (errno.ENAMETOOLONG, "read_only"),
        (errno.EMFILE, "io_error"),
        (errno.ENOMEM, "io_error"),
        (errno.ENOSPC, "disk_full"),
    ],
)
def test_a_refusal_that_nobody_foresaw_is_the_places_fault(
    number: int, code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> int:
        raise OSError(number, os.strerror(number), "/somewhere/popug.db")

    monkeypatch.setattr(main, "_run", refused)
    assert main.run(["whoami", "--json"]) == 8
    assert f'"{code}"' in capsys.readouterr().err


def test_what_is_no_refusal_is_a_fault_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise OSError(errno.ECHILD, os.strerror(errno.ECHILD), "/somewhere")

    monkeypatch.setattr(main, "_run", broken)
    assert main.run(["whoami"]) == 1


def test_a_closed_stdin_is_one_from_which_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert main.run(["man"]) == 0


def test_a_password_that_no_memory_is_left_for_is_not_called_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from argon2.exceptions import VerificationError

    class Starved:
        def verify(self, *_: object) -> bool:
            raise VerificationError("Memory allocation error")

    company = InProcess(tmp_path / "home")
    monkeypatch.setattr(passwords, "_hasher", lambda context: Starved())
    with company.place.runtime.reading(OPERATOR) as context, pytest.raises(Unavailable, match="not enough memory"):
        passwords.is_password("a password of some length", "a hash", context)


def test_a_key_that_cannot_be_opened_now_is_not_called_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    company = InProcess(tmp_path / "home")

    def refused(*_: object, **__: object) -> str:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(OSError, match="Too many open files"):
        keys.signing_key(company.place.home)


def test_a_restore_onto_a_full_disk_does_not_blame_the_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backup = tmp_path / "good.db"
    backup.write_bytes(archive.SQLITE_MAGIC + bytes(100))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(PopugError) as refusal:
        archive.unpack(backup, Home(tmp_path))
    assert refusal.value.code == "disk_full"


def test_a_file_that_may_not_grow_has_no_space_left() -> None:
    assert unwritable(Path("out"), OSError(errno.EFBIG, "File too large")).code == "disk_full"


@pytest.mark.parametrize("odd", ["\v", "\r", "\x1c", "\x85", "\u2028"])
def test_a_mount_point_with_an_odd_end_of_line_is_one_line(odd: str) -> None:
    mounts = f"30 1 0:1 / /m/a{odd}b rw - fuse.bindfs src rw\n"
    assert kind_without_locks(f"/m/a{odd}b/home", mounts) == "fuse.bindfs"
